"""The suite that proves reliability; `python -m tests.reliability --long` runs it at length."""
