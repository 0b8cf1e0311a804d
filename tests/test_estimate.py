"""`estimate`: what it says, and that it says it without leaving anything."""

import json
from pathlib import Path

import pytest

from mclrec_fast.commands import estimate, train

from .small_runs import SETTINGS, write_log


def arguments(log: Path) -> list[str]:
    chosen = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    return ["--data", str(log), "--threads", "1", *chosen]


def test_memory_by_part_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mclrec_fast.training.estimate.SECONDS", 0.02)
    log = write_log(tmp_path / "log.txt")
    monkeypatch.chdir(tmp_path)
    assert estimate.main([*arguments(log), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert list(tmp_path.iterdir()) == [log]
    assert found["batches_per_epoch"] == 6
    memory = found["memory_mb"]
    parts = {name: size for name, size in memory.items() if name != "together"}
    assert memory["together"] == pytest.approx(sum(parts.values()))
    assert memory["optimizer"] == pytest.approx(2 * memory["weights"], rel=1e-2)
    assert "an epoch (6 batches)" in said.err
    assert train.main([*arguments(log), "--epochs", "4", "--out", "run"]) == 0
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    really = sorted(record["seconds"] for record in records)[1]
    assert really / 20 < found["seconds_per_epoch"] < really * 20  # the unit, at least


def test_what_is_not_trained_has_no_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path / "log.txt")
    assert estimate.main(["--data", str(log), "--model", "popularity"]) == 2
    assert "is counted, not trained" in capsys.readouterr().err
