"""Training: the schedules of updates, the loop around them, checkpoints and the run directory."""
