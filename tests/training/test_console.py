"""What a run says: plain where nobody looks, drawn on a terminal, whole in the log."""

import io
import warnings

import pytest

from mclrec_fast.console import Console, fields, plain_table

ROWS = [["mclrec", "0.1"], ["popularity floor", "0.05"]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_lines_before_a_log_is_attached_reach_it() -> None:
    stream, log = io.StringIO(), []
    console = Console(stream)
    console.line("one")
    console.attach(log.append)
    console.line("two")
    assert stream.getvalue() == "one\ntwo\n"
    assert log == ["one", "two"]


def test_tables_are_plain_in_files() -> None:
    stream = io.StringIO()
    Console(stream).table("test", ["model", "hr@5"], ROWS)
    assert stream.getvalue() == (
        "test\nmodel             hr@5\nmclrec             0.1\npopularity floor  0.05\n"
    )


def test_tables_are_drawn_on_a_terminal_and_plain_in_the_log() -> None:
    pytest.importorskip("rich")
    stream, log = Terminal(), []
    console = Console(stream, log.append)
    console.table("test", ["model", "hr@5"], ROWS)
    assert "popularity floor" in stream.getvalue()
    assert stream.getvalue() != plain_table("test", ["model", "hr@5"], ROWS) + "\n"
    assert log == [plain_table("test", ["model", "hr@5"], ROWS)]


def test_progress_is_silent_in_files_and_shown_on_a_terminal() -> None:
    pytest.importorskip("rich")
    silent, shown = io.StringIO(), Terminal()
    for stream in (silent, shown):
        with Console(stream).progress("epoch 1", 4, 1) as advance:
            advance(3)
    assert silent.getvalue() == ""
    assert "epoch 1" in shown.getvalue()


def test_long_work_says_how_far_it_is_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 40.0, 50.0, 101.0, 200.0])
    monkeypatch.setattr("mclrec_fast.console.time.monotonic", lambda: next(clock))
    stream, log = io.StringIO(), []
    with Console(stream, log.append).progress("evaluation", 100, 20) as advance:
        for _ in range(4):
            advance(15)
        advance(20)  # done: nothing more to say
    assert log == [
        "evaluation: 50 of 100 (50%), about 67 s left",
        "evaluation: 80 of 100 (80%), about 34 s left",
    ]
    assert stream.getvalue().splitlines() == log


def test_a_reader_that_went_away_does_not_end_a_run() -> None:
    log: list[str] = []
    console = Console(Gone(), log.append)
    console.line("one")
    console.line("two")
    assert log == ["one", "two"]


def test_warnings_become_lines() -> None:
    stream = io.StringIO()
    with Console(stream).warnings_as_lines():
        warnings.warn("slow", UserWarning, stacklevel=1)
    assert stream.getvalue() == "warning: slow\n"


def test_numbers() -> None:
    assert fields(epoch="1/3", a=0.5, b=12, c=1e-7, d=0.0) == (
        "epoch=1/3 a=0.5000 b=12 c=1e-07 d=0.0000"
    )
