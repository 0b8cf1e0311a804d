"""Pairs of equal models: what they are made of, and that the count is of them."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import false_alarms
from mclrec_fast.runs.trimmed import trim
from tests.small_runs import quiet_run, write_log


def test_equal_pairs_are_the_users_differences_with_other_signs() -> None:
    a, b = np.arange(50.0), np.zeros(50)
    pairs = list(false_alarms.equal_pairs(a, b, 40, seed=3))
    assert len(pairs) == 40 and all(len(pair) == 50 for pair in pairs)
    assert {abs(value) for pair in pairs for value in pair} == set(a)
    assert abs(np.mean(pairs)) < 4 * np.sqrt(np.mean(a**2) / (40 * 50))


def test_the_exchange_is_what_makes_them_equal() -> None:
    """The gains themselves differ, which the test finds."""
    rng = np.random.default_rng(0)
    b = rng.random(400)
    a = b + 0.05 + 0.1 * rng.normal(size=400)
    low, high = false_alarms.expected(200)
    assert (low, high) == (3, 19)
    found = false_alarms.count(a, b, 200, 199, seed=1)
    assert found.pairs == 200 and found.significant <= high and found.without_zero <= high
    assert false_alarms.randomisation_p(a - b, 199, 0) < 0.05


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.txt")
    for seed in ("1", "2"):
        out = tmp_path / f"whole/{seed}"
        assert quiet_run(log, out, "--model", "sasrec", "--epochs", "1", "--seed", seed) == 0
    runs = [str(made.path) for made in trim([*(tmp_path / "whole").iterdir()], tmp_path / "small")]
    assert false_alarms.main([*runs, "--pairs", "5", "--resamples", "99"]) == 0
    said = capsys.readouterr().out
    assert "5 pairs, 60 users" in said and "| masked | hr@10 |" in said
    assert false_alarms.main([runs[0], str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
