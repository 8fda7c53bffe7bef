"""Samples of a run into a folder, by any processes, and a film of how they came to be."""
