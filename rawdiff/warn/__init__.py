"""What looks wrong in a run: each with the number behind it, and what to try."""
