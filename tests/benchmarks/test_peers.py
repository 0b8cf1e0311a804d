"""The comparison with other libraries: what is missing is named, a failure is a row."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from tests.small_runs import write_log


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {row["library"]: row for row in found}


def test_this_package_beside_what_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log.txt")
    monkeypatch.setitem(peers.PEERS, "RecBole", ("no_such_module", "recbole", peers.of_recbole))
    argv = ["--data", str(log), "--threads", "1", "--json", "--only", "mclrec_fast", "RecBole"]
    assert peers.main(argv) == 0
    found = rows(capsys)
    assert found["RecBole"]["skipped"] == "not installed: pip install 'recbole'"
    ours = found["mclrec_fast"]
    assert ours["targets_per_s"] == pytest.approx(
        ours["targets_per_epoch"] / ours["seconds_per_epoch"]
    )
    assert ours["peak_mb"] > 50


def test_a_failure_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["--data", str(tmp_path / "none"), "--json", "--only", "mclrec_fast"]) == 0
    assert "none" in rows(capsys)["mclrec_fast"]["failed"]


def test_histories_without_their_last_items(tmp_path: Path) -> None:
    """Others are shown what this package trains on, and every item of it is predicted but one."""
    log = tmp_path / "log.txt"
    log.write_text("1 5 6 7 8\n2 6 5 8\n")
    dataset = peers.load_dataset(data=str(log))
    users, items, times = peers._columns(dataset, leave_out=2)
    assert users.tolist() == [0, 0, 1] and times.tolist() == [0, 1, 0] and len(items) == 3
    assert peers._targets_in_one_pass(users) == 1 == len(dataset.split.train.users)
