"""Studies: every combination of a grid of recipe keys, as one table and one picture."""
