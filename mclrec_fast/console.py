"""What a run says: plain lines for people and grep, the same on the console and in train.log.

Every line also goes to the logger "mclrec_fast". Progress bars and drawn tables appear on a
terminal and in a notebook only; in a log file or a pipe, work that takes long says a line now and
then. Knows nothing of training.
"""

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from .bars import Bar, Notebook, Terminal, Work, duration

Write = Callable[[str], None]

FIRST_WORD, WORD_EVERY = 30.0, 60.0
"""Seconds until work outside a terminal first says how far it is, and from then on."""

ESCAPED = "backslashreplace"
"""How what an encoding cannot say is written: ids and names of files may hold any character."""

_LOGGER = logging.getLogger("mclrec_fast")


class Console:
    """Prints lines to a stream and hands them to a log.

    Args:
        stream: where people look; stderr when stdout is reserved for JSON.
        log: receives every line too, for example :meth:`RunDirectory.log`.
    """

    def __init__(self, stream: TextIO | None = None, log: Write | None = None) -> None:
        """See the class."""
        self.stream = (sys.stdout if stream is None else stream) or io.StringIO()
        self.log_line = log
        self._backlog: list[str] = []
        self._bar: Bar | None = None
        self._rich = self.stream.isatty() or (stream is None and _in_notebook())

    @classmethod
    def silent(cls) -> "Console":
        """One that people do not see; the logger and an attached log get its lines."""
        return cls(io.StringIO())

    def attach(self, log: Write) -> None:
        """Sends all lines so far, and from now on, to a log."""
        self.log_line = log
        for line in self._backlog:
            log(line)
        self._backlog.clear()

    def line(self, text: str = "") -> None:
        """Says one line (or several, separated by newlines)."""
        self._print(text)
        self._keep(text)

    def _keep(self, text: str) -> None:
        """Gives a line to the logger and to the log."""
        _LOGGER.info("%s", text)
        if self.log_line is None:
            self._backlog.append(text)
        else:
            self.log_line(text)

    def _print(self, text: str) -> None:
        """A reader that went away (`| head`) does not end a run; the log goes on."""
        try:
            said = sayable(text, self.stream)
            if self._bar is None or not self._bar.print(said):
                print(said, file=self.stream, flush=True)
        except BrokenPipeError:
            self.stream = open(os.devnull, "w", encoding="utf-8")
            self._rich = False

    @contextmanager
    def warnings_as_lines(self) -> Iterator[None]:
        """While entered, Python's warnings are said as lines, without source code around them."""

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            self.line(f"warning: {message}")

        with warnings.catch_warnings():
            warnings.showwarning = show
            yield

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Says a table, drawn on a terminal with rich, plain elsewhere and in the log."""
        plain = plain_table(title, columns, rows)
        if not self._rich:
            self.line(plain)
            return
        import rich.table

        drawn = rich.table.Table(title=title, title_justify="left")
        for i, column in enumerate(columns):
            drawn.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
        for row in rows:
            drawn.add_row(*row)
        self._rich_console().print(drawn)
        self._keep(plain)

    def _rich_console(self) -> Any:
        import rich.console

        notebook = _in_notebook() and not self.stream.isatty()
        return rich.console.Console(file=None if notebook else self.stream)

    @contextmanager
    def progress(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A bar over `total` units with the time left; outside a terminal, lines where it is long.

        Yields a function to be called with the number of units done since the last call.
        """
        if not self._rich or total <= 0:
            yield _Words(self.line, what, total, done).advance
            return
        count = done

        def advance(more: int) -> None:
            nonlocal count
            count += more

        with self._drawing(Work(what, total, lambda: count)):
            yield advance

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A spinner with the time spent; a bar while a file is read or fetched."""
        if not self._rich:
            yield
            return
        with self._drawing(Work(what, 0, int)):
            yield

    @contextmanager
    def _drawing(self, work: Work) -> Iterator[None]:
        """Draws work where people look; within other work, beside it."""
        notebook = _in_notebook() and not self.stream.isatty()
        with Bar(work, Notebook if notebook else lambda: Terminal(self._rich_console())) as bar:
            before, self._bar = self._bar, bar
            try:
                yield
            finally:
                self._bar = before


class _Words:
    """Says a line now and then about work that takes long: how far it is, and the time left."""

    def __init__(self, say: Write, what: str, total: int, done: int) -> None:
        self._say, self._what, self._total = say, what, total
        self._first = self._done = done
        self._start = time.monotonic()
        self._due = self._start + FIRST_WORD

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now < self._due or self._done >= self._total:
            return
        self._due = now + WORD_EVERY
        left = (now - self._start) / (self._done - self._first) * (self._total - self._done)
        self._say(
            f"{self._what}: {self._done} of {self._total} ({self._done / self._total:.0%}), "
            f"about {duration(left)} left"
        )


def sayable(text: str, stream: TextIO) -> str:
    """The text with what the stream's encoding does not have escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, ESCAPED).decode(encoding)


def say_anything() -> None:
    """From now on the standard streams of this process take any text.

    What their encoding does not have is escaped; nobody hears what goes to one that is closed.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _in_notebook() -> bool:
    """Whether Jupyter runs this."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(ipython).__name__ == "ZMQInteractiveShell"


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as aligned text: first column to the left, the others to the right."""
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([title, *lines])


def fields(**values: Any) -> str:
    """`name=value` pairs on one line; floats with four decimals or significant digits."""
    return " ".join(f"{name}={number(value)}" for name, value in values.items())


def number(value: Any) -> str:
    """A value for a log line."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.4g}"
