"""Scores of a run: by evaluators of any kind, by its likelihood, by the spread of its samples."""
