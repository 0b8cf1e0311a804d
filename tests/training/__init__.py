"""Tests of mclrec_fast.training."""
