"""Tests of mclrec_fast.ops."""
