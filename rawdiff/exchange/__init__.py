"""Models that go out and come in: a folder for others, hubs, formats of other code."""
