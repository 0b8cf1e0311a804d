"""Reads a log file: picks the C++ reader or its numpy twin, and turns problems into an error.

Which one reads makes no difference to the result. "auto" takes the C++ reader where it is built
and says once where it is not; "native" insists on it.
"""

import importlib
import json
import os
import queue
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bars import reported
from ..errors import InputError
from . import numpy_reader
from .build import Csr, to_csr
from .ids import as_objects
from .layout import Layout
from .log import InteractionLog
from .messages import fail
from .problems import Problem
from .source import Source
from .spool import Spool
from .table import Table

READERS = ("auto", "native", "numpy")
_PACKAGE = Path(__file__).resolve().parent.parent
_BLOCKS_AHEAD = 4
_announced: set[str] = set()


class ReaderFallbackWarning(UserWarning):
    """The numpy twin reads because the C++ reader is not there."""


def _load() -> tuple[ModuleType | None, str]:
    """The compiled reader, or why it cannot be had."""
    if os.environ.get("MCLREC_FAST_DISABLE_NATIVE", "0") not in ("", "0"):
        return None, "MCLREC_FAST_DISABLE_NATIVE is set"
    try:
        return importlib.import_module("mclrec_fast._reader"), ""
    except ModuleNotFoundError:
        try:
            record = json.loads((_PACKAGE / "_build_info.json").read_text())
            reason = record["modules"]["_reader"]["reason"]
        except (OSError, ValueError, KeyError, TypeError):
            reason = "it was never built here"
        return None, f'{reason}; rebuild with "pip install ." from the sources'
    except ImportError as error:
        return None, f"it cannot be loaded: {error}"


def available() -> bool:
    """Whether the C++ reader can be used."""
    return _load()[0] is not None


def choose(requested: str) -> str:
    """Resolve "auto", "native" or "numpy" to one of the last two.

    Raises:
        InputError: the word is unknown, or "native" is not available.
    """
    if requested not in READERS:
        raise InputError(f"reader {requested!r} is unknown, expected {', '.join(READERS)}")
    if requested == "numpy":
        return "numpy"
    module, reason = _load()
    if module is not None:
        return "native"
    if requested == "native":
        raise InputError(f"the C++ log reader is not available: {reason}")
    if reason not in _announced:
        _announced.add(reason)
        warnings.warn(
            f"reading logs with numpy, which is slower than the C++ reader: {reason}",
            ReaderFallbackWarning,
            stacklevel=3,
        )
    return "numpy"


class _Ahead:
    """Takes blocks from a stream in a thread of its own, a few ahead of the reader."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_BLOCKS_AHEAD)
        self._stopped = threading.Event()
        # A daemon: standard input may never end, and nobody waits for it then.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Ahead":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()

    def next(self) -> bytes:
        """The next block, never empty before the end."""
        block = self._queue.get()
        if isinstance(block, BaseException):
            raise block
        return block

    def _put(self, block: bytes | BaseException) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(block, timeout=0.2)
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            for block in self._blocks:
                if block:
                    self._put(block)
                if self._stopped.is_set():
                    return
            self._put(b"")
        except BaseException as error:
            self._put(error)


def read_native(
    source: Source | Path,
    layout: Layout,
    threads: int,
    *,
    bytes_per_thread: int = 1 << 20,
    block_bytes: int = 1 << 19,
    spool: Spool | None = None,
) -> tuple[Table, list[Problem], int]:
    """Read a log with the C++ reader; arguments and result as `numpy_reader.read`.

    A plain file is read by its path, anything else block by block and by one thread.

    Args:
        source: the file, or its path.
        layout: what `find_layout` said about it.
        threads: the most threads to use, 1 or more; the result does not depend on it.
        bytes_per_thread: smaller files are read by fewer threads.
        block_bytes: how much is read at a time.
        spool: where the columns go instead of into memory, by one thread.
    """
    module, reason = _load()
    if module is None:
        raise InputError(f"the C++ log reader is not available: {reason}")
    if spool is not None:
        with spool.targets(layout) as targets:
            found = _read_found(module, source, layout, 1, bytes_per_thread, block_bytes, targets)
        return _spooled(found, layout, spool)
    found = _read_found(module, source, layout, threads, bytes_per_thread, block_bytes, None)
    problems = [Problem(*record) for record in found["problems"]]
    if problems:
        return Table(found["users"], found["items"], *(_ids([]), _ids([]))), problems, found["bad"]
    table = Table(
        users=found["users"],
        items=found["items"],
        user_ids=_ids(found["user_ids"]),
        item_ids=_ids(found["item_ids"]),
        times=found["times"],
        ratings=found["ratings"],
        then=found["then"],
    )
    return table, [], 0


def _spooled(found: Any, layout: Layout, spool: Spool) -> tuple[Table, list[Problem], int]:
    """The table whose columns were written to a spool."""
    problems = [Problem(*record) for record in found["problems"]]
    if problems:
        nothing = np.empty(0, np.int32)
        return Table(nothing, nothing, _ids([]), _ids([])), problems, found["bad"]

    def moments(name: str, column: int) -> Any:
        if layout.kind != "table" or column < 0:
            return None
        return spool.moments(name, found[f"{name}_are_float"], found[f"{name}_spooled_integers"])

    rated = layout.kind == "table" and layout.rating >= 0
    table = Table(
        spool.column("users", np.int32),
        spool.column("items", np.int32),
        _ids(found["user_ids"]),
        _ids(found["item_ids"]),
        moments("times", layout.time),
        spool.column("ratings", np.float64) if rated else None,
        moments("then", layout.then),
    )
    return table, [], 0


def _read_found(
    module: Any,
    source: Source | Path,
    layout: Layout,
    threads: int,
    bytes_per_thread: int,
    block_bytes: int,
    spool: dict[str, int] | None,
) -> Any:
    """What `_reader.read` returns, the file's progress shown."""
    path = source if isinstance(source, Path) else source.path if source.plain else None
    if path is not None:
        progress = module.Progress()
        rest = path.stat().st_size - layout.offset
        with reported(f"reading {path.name}", rest, lambda: progress.bytes):
            return module.read(
                os.fsencode(path),
                layout,
                threads,
                bytes_per_thread,
                block_bytes,
                progress=progress,
                spool=spool,
            )
    assert isinstance(source, Source)
    with source.reported(), _Ahead(source.blocks(layout.offset)) as ahead:
        return module.read(b"", layout, 1, block_bytes=block_bytes, stream=ahead.next, spool=spool)


def group_rows(table: Table, reader: str, threads: int) -> Csr:
    """Rows grouped by user, each user's sorted by time; both orders are stable.

    The rows are taken out of the table (its ids stay), and their memory may become the result's.

    Args:
        table: what `read_table` gave, filtered.
        reader: "native" or "numpy", as `choose` says; the result is the same.
        threads: how many threads the C++ reader may use, 1 or more.
    """
    _break_ties(table)
    module = _load()[0] if reader == "native" else None
    n_users = len(table.user_ids)
    if module is None:
        csr = to_csr(table.users, table.items, table.times, n_users)
    else:
        offsets = module.group(table.users, table.items, table.times, n_users, threads)
        csr = Csr(table.items, offsets, table.times)
    table.clear()
    return csr


def count_repeats(
    log: InteractionLog, reader: str, threads: int
) -> tuple[NDArray[np.bool_], int, int] | None:
    """The census of a log by the C++ reader; None where it is not there (see census.py)."""
    module = _load()[0] if reader != "numpy" else None
    if module is None:
        return None
    counted: tuple[NDArray[np.bool_], int, int] = module.census(
        log.items, log.offsets, log.times, threads
    )
    return counted


def _break_ties(table: Table) -> None:
    """Puts the rows in the order of what breaks ties, so that a stable sort by time keeps it."""
    if table.then is None:
        return
    order = np.argsort(table.then, kind="stable")
    table.users, table.items = table.users[order], table.items[order]
    table.times = None if table.times is None else table.times[order]
    table.then = None


def _ids(ids: Any) -> Any:
    return as_objects(ids) if isinstance(ids, list) else ids


def read_table(
    source: Source,
    layout: Layout,
    reader: str,
    threads: int,
    empty_is_fine: bool = False,
    spool: Spool | None = None,
) -> Table:
    """Read a log.

    Args:
        source: where its bytes are.
        layout: what `find_layout` said about it.
        reader: "native" or "numpy", as `choose` says.
        threads: how many threads the C++ reader may use, 1 or more.
        empty_is_fine: a log without rows is one of several parts.
        spool: where the C++ reader's columns go instead of into memory.

    Raises:
        OSError: the spool cannot be written.
        InputError: bad lines (the first five are listed), or no interactions at all.
    """
    try:
        if reader == "native":
            table, problems, count = read_native(source, layout, threads, spool=spool)
        else:
            with source.reported():
                table, problems, count = numpy_reader.read(source, layout)
    except OSError as error:
        if spool is not None and error.filename is None:
            raise
        raise InputError(f"{source.name}: cannot be read ({error.strerror})") from None
    if count:
        raise fail(source.name, layout, problems, count)
    if not len(table.users) and not empty_is_fine:
        what = "the file has a header and no rows" if layout.first_line > 1 else "no interactions"
        raise InputError(f"{source.name}: {what}, expected interactions")
    return table
