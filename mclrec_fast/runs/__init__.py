"""Runs: the directory that one leaves behind, its files, and loading what was learned from it.

Used by training, evaluation and recommending alike; knows nothing of any of them.
"""
