"""Training: the loop, the step of a batch, who keeps states and who is told; see fit.py first."""
