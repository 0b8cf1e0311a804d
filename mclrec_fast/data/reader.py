"""Reads a log file: picks the C++ reader or its numpy twin, and turns problems into an error.

Which one reads makes no difference to the result. "auto" takes the C++ reader where it is built
and says once where it is not; "native" insists on it.
"""

import importlib
import json
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError
from . import numpy_reader
from .build import Csr, to_csr
from .ids import as_objects
from .layout import Layout
from .messages import fail
from .problems import Problem
from .table import Table

READERS = ("auto", "native", "numpy")
_PACKAGE = Path(__file__).resolve().parent.parent
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


def read_native(
    path: Path,
    layout: Layout,
    threads: int,
    *,
    bytes_per_thread: int = 1 << 20,
    block_bytes: int = 1 << 19,
) -> tuple[Table, list[Problem], int]:
    """Read a log with the C++ reader; arguments and result as `numpy_reader.read`.

    Args:
        path: the file.
        layout: what `find_layout` said about it.
        threads: the most threads to use, 1 or more; the result does not depend on it.
        bytes_per_thread: smaller files are read by fewer threads.
        block_bytes: how much is read at a time.
    """
    module, reason = _load()
    if module is None:
        raise InputError(f"the C++ log reader is not available: {reason}")
    found = module.read(
        os.fsencode(path),
        layout.kind == "table",
        layout.delimiter,
        layout.quotes,
        layout.columns,
        layout.user,
        layout.item,
        layout.time,
        layout.rating,
        layout.offset,
        layout.first_line,
        threads,
        bytes_per_thread,
        block_bytes,
    )
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
    )
    return table, [], 0


def group_rows(table: Table, reader: str, threads: int) -> Csr:
    """Rows grouped by user, each user's sorted by time; both orders are stable.

    The rows are taken out of the table (its ids stay), and their memory may become the result's.

    Args:
        table: what `read_table` gave, filtered.
        reader: "native" or "numpy", as `choose` says; the result is the same.
        threads: how many threads the C++ reader may use, 1 or more.
    """
    module = _load()[0] if reader == "native" else None
    n_users = len(table.user_ids)
    if module is None:
        csr = to_csr(table.users, table.items, table.times, n_users)
    else:
        offsets = module.group(table.users, table.items, table.times, n_users, threads)
        csr = Csr(table.items, offsets, table.times)
    table.clear()
    return csr


def _ids(ids: Any) -> Any:
    return as_objects(ids) if isinstance(ids, list) else ids


def read_table(path: Path, layout: Layout, reader: str, threads: int) -> Table:
    """Read a log file.

    Args:
        path: a file that `open_check` has accepted.
        layout: what `find_layout` said about it.
        reader: "native" or "numpy", as `choose` says.
        threads: how many threads the C++ reader may use, 1 or more.

    Raises:
        InputError: bad lines (the first five are listed), or no interactions at all.
    """
    try:
        if reader == "native":
            table, problems, count = read_native(path, layout, threads)
        else:
            table, problems, count = numpy_reader.read(path, layout)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if count:
        raise fail(str(path), layout, problems, count)
    if not len(table.users):
        what = "the file has a header and no rows" if layout.first_line > 1 else "no interactions"
        raise InputError(f"{path}: {what}, expected interactions")
    return table
