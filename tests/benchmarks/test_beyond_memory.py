"""The generated log is one that the reader reads, and the whole comes to its end."""

import subprocess
import sys
from pathlib import Path

from benchmarks.beyond_memory import generate
from mclrec_fast import Dataset


def test_generated_log(tmp_path: Path) -> None:
    """As many rows as asked for, in order of time; the same each time."""
    for name in ("a.csv", "b.csv"):
        generate(tmp_path / name, 1000, 60, 40)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    log = Dataset.from_file(tmp_path / "a.csv", holdout="none").log
    assert log.n_interactions == 1000
    assert log.n_users <= 60 and log.n_items <= 40
    assert log.times is not None and int(log.times.max() - log.times.min()) == 249


def test_says_what_was_taken(tmp_path: Path) -> None:
    """Both steps, and nothing stays."""
    command = [sys.executable, "-m", "benchmarks.beyond_memory", "--rows", "3000", "--users", "90"]
    command += ["--items", "40", "--steps", "2", "--place", str(tmp_path)]
    command += ["--set", "threads=1", "--set", "hidden_size=8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "prepare: " in done.stdout and "train: " in done.stdout
    assert not list(tmp_path.iterdir())
