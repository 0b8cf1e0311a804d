"""Tests of mclrec_fast.runs."""
