"""The tables of the paper: which runs they need, what is looked at, how it is written down.

tables.py says what there is, and a new table is one entry there. A run is made by training/fit.py
like any other.
"""
