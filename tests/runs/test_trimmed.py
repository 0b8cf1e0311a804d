"""Trimmed runs: what they hold and what they must not, and that others read them as any run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mclrec_fast import commands
from mclrec_fast.comparison import compare, read_ranks
from mclrec_fast.runs.trimmed import is_trimmed, pack_ranks, trim, unpack_ranks
from tests.small_runs import quiet_run, write_log

Capture = pytest.CaptureFixture[str]
HELD = {
    "config.json", "data.json", "env.json", "result.json", "metrics.jsonl", "valid_ranks.npz",
    "test_ranks.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def other(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another model on the same log."""
    path = tmp_path_factory.mktemp("others") / "other"
    assert quiet_run(log, path, "--model", "sasrec", "--epochs", "2") == 0
    return path


def test_what_it_holds(finished: Path, log: Path, tmp_path: Path, capsys: Capture) -> None:
    assert commands.main(["trim", str(finished), "--out", str(tmp_path / "a/b")]) == 0
    path = tmp_path / "a/b" / finished.name
    assert f"{path}: " in capsys.readouterr().out
    assert {file.name for file in path.iterdir()} == HELD
    assert is_trimmed(path) and not is_trimmed(finished)
    for file in path.glob("*.json"):
        text = file.read_text()
        assert str(log.parent) not in text and '"/' not in text, file.name
        assert "notes" not in text
    with np.load(path / "test_ranks.npz") as kept:
        assert set(kept) == {"user_steps", "unmasked", "seen_ahead"}
    assert json.loads((path / "config.json").read_text())["data"]["data"] == log.name
    assert (path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_ranks_are_those_of_the_run(finished: Path, tmp_path: Path) -> None:
    (made,) = trim([finished], tmp_path)
    for split in ("valid", "test"):
        whole, small = (read_ranks(path, split) for path in (finished, made.path))
        for name in ("users", "unmasked", "masked"):
            ours, theirs = getattr(whole, name), getattr(small, name)
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
        assert whole.data == small.data and whole.dataset == small.dataset


def test_packing() -> None:
    """Users with gaps, no users, and a target that repeats its history, whatever the types."""
    user = np.array([3, 4, 900], np.int32)
    unmasked, masked = np.array([0, 70_000, 5]), np.array([0, 69_990, 2**31 - 1])
    kept = {"user": user, "unmasked": unmasked, "masked": masked, "user_id": np.arange(3)}
    packed = pack_ranks(kept)
    assert packed.keys() == {"user_steps", "unmasked", "seen_ahead"}
    assert packed["user_steps"].dtype == np.uint16
    for arrays in (packed, pack_ranks(packed), kept):
        found = unpack_ranks(arrays)
        for name in ("user", "unmasked", "masked"):
            assert np.array_equal(found[name], kept[name])
            assert found[name].dtype == kept[name].dtype
    none = {name: array[:0] for name, array in kept.items()}
    assert all(len(array) == 0 for array in unpack_ranks(pack_ranks(none)).values())


def test_tests_and_pictures_are_those_of_the_runs(
    finished: Path, other: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [made.path for made in trim([finished, other], tmp_path / "small")]
    tests = [
        [test._replace(run="", against="") for test in compare(*runs, protocol="masked").tests]
        for runs in ([finished, other], small)
    ]
    assert tests[0] == tests[1]
    assert compare(finished, small[1]).tests[0].difference == pytest.approx(
        compare(finished, other).tests[0].difference, abs=0
    )
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(log.parent)  # where a trimmed run finds its log by name
    plots = []
    for runs in ([finished, other], small):
        out = tmp_path / f"plots{len(plots)}"
        assert commands.main(["plot", *map(str, runs), "--out", str(out)]) == 0
        plots.append(out)
    for name in ("plot.json", "curves.svg", "groups.svg"):
        assert (plots[0] / name).read_bytes() == (plots[1] / name).read_bytes(), name
    monkeypatch.chdir(tmp_path)  # where it does not
    assert commands.main(["plot", str(small[0]), "--out", "elsewhere"]) == 0
    assert not (tmp_path / "elsewhere/groups.svg").exists()


def test_once_more_is_the_same(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["trim", str(finished), "--out", str(tmp_path)]
    assert commands.main(argv) == 0
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / finished.name).iterdir()}
    capsys.readouterr()
    assert commands.main(argv) == 0
    assert "was there" in capsys.readouterr().out
    again = tmp_path / "again"
    assert commands.main(["trim", str(tmp_path / finished.name), "--out", str(again)]) == 0
    for name, changed in before.items():
        file = tmp_path / finished.name / name
        assert file.stat().st_mtime_ns == changed
        assert file.read_bytes() == (again / finished.name / name).read_bytes()


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["evaluate"], "was trimmed, and has figures and ranks, but no weights"),
        (["similar-items", "3"], "was trimmed"),
        (["diagnose"], "was trimmed"),
        (["train", "--epochs", "3", "--resume"], "nothing to go on with"),
    ],
)
def test_what_needs_weights_says_so(
    finished: Path, log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    verb: list[str], said: str,
) -> None:  # fmt: skip
    (made,) = trim([finished], tmp_path)
    monkeypatch.chdir(log.parent)
    held = {file.name: file.read_bytes() for file in made.path.iterdir()}
    first, *rest = verb
    run = [str(made.path)]
    words = [first, *rest, *run] if rest[-1:] == ["--resume"] else [first, *run, *rest]
    assert commands.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    left = {file.name: file.read_bytes() for file in made.path.iterdir()}
    assert held == {name: content for name, content in left.items() if name in held}


def test_bad_input(copied: Path, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"

    def refused(*runs: Path) -> str:
        assert commands.main(["trim", *map(str, runs), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    assert "no such directory" in refused(tmp_path / "nowhere")
    assert "holds no run" in refused(tmp_path)
    twin = tmp_path / "twin" / copied.name
    shutil.copytree(copied, twin)
    assert f"another one is called {copied.name}" in refused(copied, twin)
    (twin / "result.json").unlink()
    assert f"not finished; go on with it first: mclrec-fast train --resume {twin}" in refused(twin)
    (copied / "test_ranks.npz").write_bytes(b"PK")
    assert f"RUN {copied / 'test_ranks.npz'}: damaged" in refused(finished, copied)
    assert not out.exists()
    trim([finished], out)
    (out / finished.name / "result.json").write_text("{}\n")
    assert "is there and is not this run" in refused(finished)
    assert (out / finished.name / "result.json").read_text() == "{}\n"
    (out / "file").mkdir()
    assert [path.name for path in sorted(out.iterdir())] == sorted([finished.name, "file"])


def test_another_log_is_not_the_runs(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    (made,) = trim([finished], tmp_path)
    stranger = tmp_path / "strange" / "stranger"
    assert quiet_run(write_log(tmp_path / "s.txt", seed=5), stranger, "--epochs", "1") == 0
    assert commands.main(["compare", str(made.path), str(stranger)]) == 2
    assert "runs of other data cannot be compared: sha256" in capsys.readouterr().err
