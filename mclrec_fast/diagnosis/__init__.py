"""Looking into a model: how representations and views lie in space, whether they collapse."""

SAMPLES = 2048
"""How many samples are looked at, at most: pairs grow with the square."""
