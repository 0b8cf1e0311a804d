"""Tests of mclrec_fast.model."""
