"""What a run says: plain where nobody looks, drawn on a terminal, whole in the log."""

import io
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable

import pytest

from mclrec_fast.bars import reported
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


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars appear without delay."""
    monkeypatch.setattr("mclrec_fast.bars.BEGIN_AFTER", 0.0)


def wait_for(text: str, found: Callable[[], str]) -> None:
    until = time.monotonic() + 20
    while text not in found():
        assert time.monotonic() < until, found()
        time.sleep(0.01)


@pytest.mark.usefixtures("at_once")
def test_progress_is_silent_in_files_and_shown_on_a_terminal() -> None:
    silent, shown = io.StringIO(), Terminal()
    for stream in (silent, shown):
        with Console(stream).progress("epoch 1", 400, 100) as advance:
            advance(150)
            if stream is shown:
                wait_for("250 of 400, ", shown.getvalue)
    assert silent.getvalue() == ""
    assert "epoch 1" in shown.getvalue() and "s left" in shown.getvalue()


def test_quick_work_draws_nothing() -> None:
    stream = Terminal()
    with Console(stream).progress("epoch 1", 4) as advance:
        advance(4)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("at_once")
def test_waiting_shows_the_time_left_of_what_is_read_within_it() -> None:
    silent, shown = io.StringIO(), Terminal()
    with Console(silent).waiting("reading"), reported("x.csv", 10**7, int):
        pass
    assert silent.getvalue() == ""
    with Console(shown).waiting("reading"):
        wait_for("reading", shown.getvalue)
        count = iter([0])
        with reported("x.csv", 10**7, lambda: next(count, 5_000_000)):
            wait_for("5.0 of 10.0 MB, ", shown.getvalue)
        before = len(shown.getvalue())
        wait_for("reading", lambda: shown.getvalue()[before:])
    assert "s left" in shown.getvalue()


@pytest.mark.usefixtures("at_once")
def test_a_line_said_beside_a_bar_is_whole() -> None:
    stream = Terminal()
    console = Console(stream)
    with console.waiting("reading"):
        wait_for("reading", stream.getvalue)
        console.line("warning: [x] two of a kind")
    lines = [line.rpartition("\x1b[2K")[2] for line in stream.getvalue().split("\n")]
    assert "warning: [x] two of a kind" in lines


@pytest.mark.usefixtures("at_once")
def test_work_within_work_is_one_bar() -> None:
    stream = Terminal()
    with Console(stream).progress("epoch 1", 9), Console(stream).progress("validation", 9):
        wait_for("validation", stream.getvalue)
    threads = [thread.name for thread in threading.enumerate()]
    assert "bar" not in threads


@pytest.mark.usefixtures("at_once")
def test_a_notebook_has_one_output_that_is_updated_and_left_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw and display_id
        shown.append("made")
        return Handle()

    fake = types.ModuleType("IPython")
    fake.display = types.SimpleNamespace(display=display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setattr("mclrec_fast.console._in_notebook", lambda: True)
    with Console().progress("epoch 1", 90, 30) as advance:
        advance(15)
        wait_for("45 of 90", lambda: shown[-1] if shown else "")
    assert shown.count("made") == 1 and shown[-1] == ""
    assert any(text.startswith(f"epoch 1 {'█' * 15}{'░' * 15} 45 of 90, ") for text in shown)


@pytest.mark.usefixtures("at_once")
def test_a_terminal_that_went_away_does_not_end_the_work() -> None:
    class Broken(Terminal):
        def write(self, _text: str) -> int:
            raise OSError

    with Console(Broken()).waiting("reading"):
        time.sleep(0.05)


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
