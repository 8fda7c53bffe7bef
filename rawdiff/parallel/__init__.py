"""One run on several processes: who they are, what they tell one another, how a network is cut."""
