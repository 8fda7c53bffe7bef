"""How fast a recipe trains here, where the time goes, and what to change."""
