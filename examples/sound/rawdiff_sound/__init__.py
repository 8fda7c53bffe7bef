"""Mono sound for rawdiff."""
