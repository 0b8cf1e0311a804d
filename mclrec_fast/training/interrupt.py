"""Ctrl-C, SIGTERM and SIGHUP as a request that the loop honours between two batches.

A second signal ends the process at once, as without us; the last state on disk stays good. Saving
is the loop's business.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any

from ..parallel import Group
from ..parallel.join import launched_as


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop, and did, with its state saved.

    Attributes:
        exit_code: 128 + the signal's number: 130 for Ctrl-C.
    """

    def __init__(self, text: str, exit_code: int = 130) -> None:
        """Keep the message and the exit code."""
        super().__init__(text)
        self.exit_code = exit_code


def resume_command(path: Path) -> str:
    """What to type to go on with a run."""
    return f"{launched_as()} --resume {quote(str(path))}"


# A hang-up too: the terminal of a long run closes, the run should not be lost.
_STOPS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


class StopRequest:
    """While entered, turns the first SIGINT, SIGTERM or SIGHUP into `requested`.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self.signal = 0
        self._previous: dict[int, Any] = {}

    def agree(self, group: Group) -> None:
        """A signal to one of the processes is one to all."""
        self.signal = group.largest(self.signal)

    @property
    def requested(self) -> bool:
        """A signal has arrived."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """The exit code that tells the shell which signal it was."""
        return 128 + self.signal

    def __enter__(self) -> "StopRequest":
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stopped_at_once(text: str) -> Iterator[None]:
    """While entered, a signal to stop raises `Interrupted` wherever the process is."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(text, 128 + number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
