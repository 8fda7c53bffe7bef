"""Fields in space and time for rawdiff."""
