"""`recommend` on logs that are read and answered bit by bit, against the same read whole."""

import contextlib
import csv
import gc
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mclrec_fast.commands import recommend
from mclrec_fast.data import InteractionLog, stream
from mclrec_fast.data.table import Table
from tests.small_runs import run, write_log

Capture = pytest.CaptureFixture[str]
Rows = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert run(write_log(folder / "small.txt"), folder / "run", "--epochs", "1") == 0
    return folder / "run"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every log streams, a few users at a time; users have more rows than a piece, too."""
    monkeypatch.setattr(stream, "STREAM_BYTES", 0)
    monkeypatch.setattr(stream, "STREAM_ROWS", 0)
    monkeypatch.setattr(stream, "PIECE_BYTES", 64)
    monkeypatch.setattr(stream, "PIECE_ROWS", 7)


def rows_of(users: int = 40, text: bool = True) -> Rows:
    """(user, item, time), users together, items unsorted in time and some unknown."""
    rng = np.random.default_rng(1)
    names = [f"u{i}" if text else str(i) for i in rng.permutation(users)]
    rows = []
    for user in names:
        count = int(rng.integers(1, 12))
        items, times = rng.integers(1, 34, count).tolist(), rng.permutation(count).tolist()
        rows += [(user, item, moment) for item, moment in zip(items, times, strict=True)]
    return rows


def as_csv(path: Path, rows: Rows) -> Path:
    path.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    return path


def histories(rows: Rows) -> dict[str, list[int]]:
    """Each user's items in time order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for user, item, moment in rows:
        found.setdefault(user, []).append((moment, item))
    return {user: [item for _, item in sorted(pairs)] for user, pairs in found.items()}


def answers(trained: Path, log: Path, out: Path, *more: str) -> str:
    assert recommend.main([str(trained), "--data", str(log), "--out", str(out), *more]) == 0
    return out.read_text()


@pytest.fixture
def whole(trained: Path, tmp_path: Path) -> Callable[[Rows], str]:
    """What a log gives that is read whole."""

    def of(rows: Rows) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "STREAM_BYTES", 1 << 60)
            log = as_csv(tmp_path / "whole.csv", rows)
            return answers(trained, log, tmp_path / "whole.out.csv")

    return of


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("reader", ["native", "numpy"])
def test_a_grouped_table_gives_what_it_gives_read_whole(
    trained: Path,
    tmp_path: Path,
    whole: Callable[[Rows], str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    text: bool,
    reader: str,
) -> None:
    rows = rows_of(text=text)
    expected = whole(rows)
    before = capsys.readouterr().err
    request.getfixturevalue("small_pieces")
    monkeypatch.setattr(stream.reader, "choose", lambda _wanted: reader)
    asked: list[int] = []
    real = stream._Reading.log
    monkeypatch.setattr(stream._Reading, "log", lambda s, t: asked.append(1) or real(s, t))
    assert answers(trained, as_csv(tmp_path / "a.csv", rows), tmp_path / "b.csv") == expected
    assert len(asked) > 10  # parts
    said = capsys.readouterr().err
    assert said == before and "passed over" in said


def test_other_forms_of_the_same_histories(
    trained: Path, tmp_path: Path, whole: Callable[[Rows], str], small_pieces: None
) -> None:
    rows = rows_of()
    expected = whole(rows)
    lists = histories(rows)
    lines = [" ".join(map(str, [user, *items])) for user, items in lists.items()]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert answers(trained, tmp_path / "a.txt", tmp_path / "1.csv") == expected
    objects = [json.dumps({"user": user, "history": items}) for user, items in lists.items()]
    (tmp_path / "a.jsonl").write_text("\n".join(objects) + "\n\n")
    assert answers(trained, tmp_path / "a.jsonl", tmp_path / "2.csv") == expected
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"user": list(lists), "history": list(lists.values())})
    parquet.write_table(table, tmp_path / "lists.parquet")
    assert answers(trained, tmp_path / "lists.parquet", tmp_path / "3.csv") == expected
    columns = dict(zip(("user", "item", "time"), zip(*rows, strict=True), strict=True))
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet", row_group_size=50)
    assert answers(trained, tmp_path / "rows.parquet", tmp_path / "4.csv") == expected


def test_scattered_rows_are_read_whole_and_it_is_said(
    trained: Path, tmp_path: Path, whole: Callable[[Rows], str], small_pieces: None, capsys: Capture
) -> None:
    rows = rows_of()
    rows = [*rows[1:], rows[0]]
    expected = whole(rows)
    assert "whole" not in capsys.readouterr().err
    assert answers(trained, as_csv(tmp_path / "a.csv", rows), tmp_path / "b.csv") == expected
    assert "the log is held in memory whole: the rows of a user do not stand" in (
        capsys.readouterr().err
    )


def test_a_user_who_comes_again_in_histories_is_an_error(
    trained: Path, tmp_path: Path, small_pieces: None, capsys: Capture
) -> None:
    lines = [f"u{i} {i % 9 + 1} 3" for i in range(30)]
    log = tmp_path / "twice.txt"
    log.write_text("\n".join([*lines, "u4 2"]) + "\n")
    out = tmp_path / "out.csv"
    assert recommend.main([str(trained), "--data", str(log), "--out", str(out)]) == 2
    assert "user 'u4' comes again" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["twice.txt"]


def test_the_place_of_a_bad_line_is_that_of_the_file(
    trained: Path, tmp_path: Path, small_pieces: None, capsys: Capture
) -> None:
    log, out = as_csv(tmp_path / "bad.csv", rows_of()), tmp_path / "out.csv"
    with log.open("a") as file:
        file.write("x,1\n")
    count = len(log.read_text().splitlines())
    assert recommend.main([str(trained), "--data", str(log), "--out", str(out)]) == 2
    assert f"{log}:{count}: 2 fields, expected 3" in capsys.readouterr().err
    log = tmp_path / "bad.jsonl"
    for line, words in (
        ("{", "no JSON"),
        ("[1]", "'[1]', expected one history a line"),
        ('{"user": "a"}', "no 'history'"),
        ('{"user": "a", "history": 3}', "'history' is '3'"),
        ('{"user": null, "history": []}', "id 0: None"),
        ('{"user": "a", "history": [[]]}', "id 0: []"),
    ):
        log.write_text('{"user": "b", "history": [1]}\n' * 1 + "\n" + line + "\n")
        assert recommend.main([str(trained), "--data", str(log), "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert f"{log}:3: " in said and words in said
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_jsonl_and_parquet_hold_what_the_csv_holds(
    trained: Path, tmp_path: Path, whole: Callable[[Rows], str], small_pieces: None
) -> None:
    rows = rows_of(text=False)
    table = list(csv.DictReader(io.StringIO(whole(rows))))
    log = as_csv(tmp_path / "a.csv", rows)
    lines = [json.loads(x) for x in answers(trained, log, tmp_path / "b.jsonl").splitlines()]
    flat = [
        (line["user"], rank, item, score)
        for line in lines
        for rank, (item, score) in enumerate(zip(line["items"], line["scores"], strict=True), 1)
    ]
    expected = [(int(r["user"]), int(r["rank"]), int(r["item"]), float(r["score"])) for r in table]
    assert flat == expected
    assert len(lines) == len(histories(rows))  # those with no answer, too
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "b.parquet"
    assert recommend.main([str(trained), "--data", str(log), "--out", str(out)]) == 0
    found = parquet.read_table(out).to_pydict()
    assert list(found) == ["user", "rank", "item", "score"]
    for name, column in zip(("user", "rank", "item"), zip(*expected, strict=False), strict=False):
        assert found[name] == list(column)
    assert found["score"] == pytest.approx([score for *_, score in expected], rel=1e-5)


def test_a_pipe_in_and_a_pipe_out(trained: Path, whole: Callable[[Rows], str]) -> None:
    rows = rows_of()
    expected = whole(rows)
    command = [sys.executable, "-m", "mclrec_fast.recommend", str(trained), "--data", "-"]
    lines = [json.dumps({"user": u, "history": h}) for u, h in histories(rows).items()]
    for given in (
        "\n".join(lines),
        "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows),
    ):
        done = subprocess.run(
            [*command, "--out", "-"], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected
        assert ("held in memory whole" in done.stderr) == given.startswith("user")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_nothing_behind(trained: Path, tmp_path: Path, number: int) -> None:
    """In the middle of a pipe that goes on."""
    out, reads = tmp_path / "out.csv", tmp_path / "pipe.jsonl"
    os.mkfifo(reads)
    real, parts = stream._Reading.log, []

    def then_a_signal(reading: stream._Reading, table: Table) -> InteractionLog:
        parts.append(table)
        if len(parts) == 3:
            assert list(tmp_path.glob(".out.csv.*"))
            os.kill(os.getpid(), number)
        return real(reading, table)

    def fill() -> None:
        with contextlib.suppress(BrokenPipeError), reads.open("w") as pipe:
            for i in range(20_000):
                pipe.write(json.dumps({"user": i, "history": [3, 4]}) + "\n")

    filler = threading.Thread(target=fill, daemon=True)
    filler.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "PIECE_BYTES", 1 << 12)
        patch.setattr(stream._Reading, "log", then_a_signal)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            argv = [str(trained), "--data", str(reads), "--out", str(out)]
            assert recommend.main(argv) == 128 + number
    gc.collect()  # closes the pipe, as the end of a process does
    filler.join(30)
    assert not filler.is_alive()
    assert f"interrupted: {out} was not written" in said.getvalue()
    assert list(tmp_path.iterdir()) == [reads]


def test_outputs_that_cannot_be(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    assert recommend.main([str(trained), "--history", "3", "--out", "a.csv.gz"]) == 2
    assert "nothing is compressed here" in capsys.readouterr().err


# What notices that a user comes again.


def test_users_who_come_again_are_noticed() -> None:
    seen = stream.Seen()
    assert seen.add(np.arange(10)) is None
    assert seen.add(np.array(["x", "11"], object)) is None
    assert seen.add(np.array([20, 11])) == 11  # 7 and "7" are one user
    assert stream.Seen().add(np.array(["a", "b", "a"], object)) == "a"


def test_of_very_many_users_a_share_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_REMEMBERED", 1000)
    seen = stream.Seen()
    for first in range(0, 100_000, 5000):
        assert seen.add(np.arange(first, first + 5000)) is None
    assert len(seen._kept) <= 1000
    assert seen.add(np.arange(50_000, 51_000)) is not None
