"""Packages of a stranger's own, written to begin with."""
