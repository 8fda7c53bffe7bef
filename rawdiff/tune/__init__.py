"""The best settings for sampling a run: averages of its weights, guidance, any key of `sample:`."""
