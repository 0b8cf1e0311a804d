"""`mclrec-fast plot`: its figures against the runs' own, its pictures, runs that lack something."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mclrec_fast.commands import plot
from mclrec_fast.data import load_dataset
from tests import small_runs

pytest.importorskip("matplotlib")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    log = small_runs.write_log(folder / "small.txt")
    assert small_runs.quiet_run(log, folder / "mclrec", "--epochs", "3") == 0
    assert small_runs.quiet_run(log, folder / "popularity", "--model", "popularity") == 0
    return folder


def drawn(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


BOTH = {"curves.svg", "curves.png", "groups.svg", "groups.png", "plot.json"}


def test_groups_add_up_to_the_metric_of_the_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mclrec_fast.run_plots._FEWEST", 1)
    out, names = tmp_path / "pictures", ("mclrec", "popularity")
    argv = [*(str(runs / name) for name in names), "--out", str(out), "--protocol", "masked"]
    assert plot.main([*argv, "--metric", "hr@5"]) == 0
    assert drawn(out) == BOTH
    figures = json.loads((out / "plot.json").read_text())
    for name in names:
        expected = small_runs.result(runs / name)["test"]["masked"]["hr@5"]
        for part in ("lengths", "popularity"):
            groups = figures["runs"][name][part]
            assert sum(group["size"] for group in groups) == 60
            mean = sum(group["size"] * group["mean"] for group in groups) / 60
            assert mean == pytest.approx(expected)
    log = load_dataset(data=str(runs / "small.txt")).log
    sizes = {g["label"]: g["size"] for g in figures["runs"]["mclrec"]["lengths"]}
    before = log.lengths - 1  # the last item is the target
    for label, (low, high) in {"3-4": (3, 5), "5-7": (5, 8), "8-12": (8, 13)}.items():
        count = int(np.count_nonzero((before >= low) & (before < high)))
        assert sizes.get(label, 0) == count


def test_the_popular_are_the_first_group(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mclrec_fast.run_plots._FEWEST", 1)
    argv = [str(runs / "popularity"), "--out", str(tmp_path / "p"), "--metric", "ndcg@50"]
    assert plot.main(argv) == 0
    assert drawn(tmp_path / "p") == BOTH - {"curves.svg", "curves.png"}
    of = json.loads((tmp_path / "p/plot.json").read_text())["runs"]["popularity"]["popularity"]
    means = [group["mean"] for group in of]
    assert means == sorted(means, reverse=True) and len(means) > 2


def test_a_run_without_ranks_and_one_without_its_log(
    runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(runs / "mclrec", bare)
    (bare / "test_ranks.npz").unlink()
    assert plot.main([str(bare), "--out", str(tmp_path / "a")]) == 0
    assert drawn(tmp_path / "a") == {"curves.svg", "curves.png", "plot.json"}
    assert "no test ranks are kept" in capsys.readouterr().out
    (bare / "metrics.jsonl").unlink()
    assert plot.main([str(bare), "--out", str(tmp_path / "b")]) == 2
    assert "nothing to draw" in capsys.readouterr().err and not (tmp_path / "b").exists()
    moved = tmp_path / "moved"
    shutil.copytree(runs / "popularity", moved)
    config = json.loads((moved / "config.json").read_text())
    config["data"]["data"] = str(tmp_path / "gone.txt")
    (moved / "config.json").write_text(json.dumps(config))
    assert plot.main([str(moved), str(runs / "mclrec"), "--out", str(tmp_path / "c")]) == 0
    assert "note: moved: by length and popularity, nothing: its log cannot be read" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["RUN", "--metric", "ndcg"], "metric 'ndcg': expected one of"),
        (["RUN", "--metric", "hr@5,hr@10"], "one metric at a time"),
        (["RUN", "--protocol", "mask"], "--protocol 'mask': expected unmasked or masked"),
        (["RUN", "--split", "train"], "--split 'train': expected test or valid"),
        (["RUN", "RUN"], "is given twice"),
        (["nowhere"], "nowhere: no such directory"),
        (["RUN", "--out", "FILE"], "File exists"),
    ],
)
def test_bad_input(
    runs: Path, tmp_path: Path, capsys: Capture, argv: list[str], words: str
) -> None:
    (tmp_path / "file").touch()
    names = {"RUN": str(runs / "mclrec"), "FILE": str(tmp_path / "file")}
    assert plot.main([*(names.get(word, word) for word in argv)]) == 2
    assert words in capsys.readouterr().err


def test_damaged_metrics_are_said(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(runs / "mclrec", bad)
    (bad / "metrics.jsonl").write_text('{"epoch": 1}\n')
    assert plot.main([str(bad), "--out", str(tmp_path / "out")]) == 2
    assert "metrics.jsonl: damaged" in capsys.readouterr().err
