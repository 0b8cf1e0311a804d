"""Bits of a run's files flipped: noticed, or the same result."""

import shutil
from pathlib import Path

from tests.small_runs import run, write_log

from .damage import READS, flip_bits


def test_flipped_bits(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.txt", users=30, items=15)
    assert run(log, tmp_path / "run", "--epochs", "1", "--model", "sasrec") == 0
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    counts = flip_bits(tmp_path / "copy", every=149, first=3)
    assert all(counts[f"{name}: noticed"] for name in READS)
