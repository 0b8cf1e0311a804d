"""Looking into a model: how representations and views lie in space, whether they collapse."""
