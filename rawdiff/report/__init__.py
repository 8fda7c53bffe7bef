"""A run as one page to look at: what was trained, on what, how it went, what came out."""
