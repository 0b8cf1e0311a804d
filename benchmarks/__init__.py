"""Measurements: every figure comes with the command that makes it and the machine's own clock."""
