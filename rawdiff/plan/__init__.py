"""What a recipe would do, here and on GPUs that are not there."""
