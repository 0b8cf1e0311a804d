"""Bars: work that can say how far it is, and a thread that draws it while it goes on.

A terminal gets rich's bar; a notebook one output that is updated in place, which needs no widgets.
Bars begin after a moment, so that quick work draws nothing, and vanish at the end. What draws them
never disturbs the work: it looks ten times a second, from a thread of its own. Console decides
whether there is anybody to draw for.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

BEGIN_AFTER = 0.3
"""Seconds that work takes before a bar appears."""
_EVERY = 0.1
_CELLS = 30


class Work:
    """Something that goes on.

    Attributes:
        what: in words.
        total: how much there is to do; 0 where nobody knows.
        unit: "" for things, "MB" for bytes.
    """

    def __init__(self, what: str, total: int, done: Callable[[], int], unit: str = "") -> None:
        """`done` says how much is done; what was done before now does not count for the speed."""
        self.what, self.total, self.unit = what, total, unit
        self._done, self._before, self._start = done, done(), time.monotonic()

    def look(self) -> "Look":
        """Where it stands."""
        done, seconds = min(self._done(), self.total), time.monotonic() - self._start
        if not self.total:
            return Look(self.what, 0, 0, duration(seconds))
        note = f"{self._amount(done)} of {self._amount(self.total)}{self.unit and ' ' + self.unit}"
        if done > self._before:
            left = seconds / (done - self._before) * (self.total - done)
            note += f", {duration(left)} left"
        return Look(self.what, done, self.total, note)

    def _amount(self, count: int) -> str:
        return f"{count / 1e6:.1f}" if self.unit else str(count)


class Look(NamedTuple):
    """Where work stands, to be drawn: `note` holds the amounts and the time left, or spent."""

    what: str
    done: int
    total: int
    note: str


_watched: ContextVar[list[Work] | None] = ContextVar("_watched", default=None)


@contextmanager
def reported(what: str, total: int, done: Callable[[], int]) -> Iterator[None]:
    """While entered, whoever draws this thread's work shows so many of `total` bytes."""
    board = _watched.get()
    if board is None or total <= 0:
        yield
        return
    work = Work(what, total, done, "MB")
    board.append(work)
    try:
        yield
    finally:
        board.remove(work)


def is_watched() -> bool:
    """Whether something draws the work of this thread already."""
    return _watched.get() is not None


class Screen(Protocol):
    """Where bars are drawn."""

    def show(self, look: Look) -> None:
        """Draw this in place of what was drawn."""

    def print(self, text: str) -> None:
        """Say a line above the bar."""

    def close(self) -> None:
        """Leave nothing behind."""


class Bar:
    """Draws work until it ends; within another bar's work, that one draws it.

    Args:
        work: what to draw; while there is work within it, that is drawn instead.
        screen: makes the screen, from the thread that draws.
    """

    def __init__(self, work: Work, screen: Callable[[], Screen]) -> None:
        """See the class."""
        self._outer, self._work = _watched.get(), work
        self._board = [work]
        self._make = screen
        self._screen: Screen | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bar", daemon=True)

    def __enter__(self) -> "Bar":
        if self._outer is not None:
            self._outer.append(self._work)
            return self
        self._token = _watched.set(self._board)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            self._outer.remove(self._work)
            return
        _watched.reset(self._token)
        self._ended.set()
        self._thread.join()

    def print(self, text: str) -> bool:
        """Say a line above the bar; False where none is drawn."""
        with self._lock:
            if self._screen is None:
                return False
            self._screen.print(text)
            return True

    def _run(self) -> None:
        if self._ended.wait(BEGIN_AFTER):
            return
        # A stream that went away, or that cannot take the signs: the work goes on without a bar.
        with suppress(Exception):
            with self._lock:
                self._screen = self._make()
            while not self._ended.is_set():
                with self._lock:
                    self._screen.show(self._board[-1].look())
                self._ended.wait(_EVERY)
        with self._lock, suppress(Exception):
            screen, self._screen = self._screen, None
            if screen is not None:
                screen.close()


class Terminal:
    """A bar drawn by rich on a terminal."""

    def __init__(self, console: Any) -> None:
        """`console` is a rich.console.Console."""
        import rich.progress

        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._drawn: tuple[str, int] | None = None
        self._bar.start()

    def show(self, look: Look) -> None:
        """See Screen."""
        if self._drawn != (look.what, look.total):
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._drawn = (look.what, look.total)
            self._task = self._bar.add_task(look.what, total=look.total or None, note="")
        self._bar.update(self._task, completed=look.done, note=look.note, refresh=True)

    def print(self, text: str) -> None:
        """See Screen."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """See Screen."""
        self._bar.stop()


class Notebook:
    """One line of text in a cell's output, updated in place."""

    def __init__(self) -> None:
        """Makes the output."""
        from IPython import display

        show: Any = display.display
        self._handle = show({"text/plain": ""}, raw=True, display_id=True)

    def show(self, look: Look) -> None:
        """See Screen."""
        self._update(text_of(look))

    def print(self, text: str) -> None:
        """See Screen."""
        print(text, flush=True)

    def close(self) -> None:
        """See Screen."""
        self._update("")

    def _update(self, text: str) -> None:
        self._handle.update({"text/plain": text}, raw=True)


def text_of(look: Look) -> str:
    """A bar as a line of text."""
    if not look.total:
        return f"{look.what} {look.note}"
    full = look.done * _CELLS // look.total
    return f"{look.what} {'█' * full}{'░' * (_CELLS - full)} {look.note}"


def duration(seconds: float) -> str:
    """A time as people say it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
