"""Columns on disk, for logs larger than memory: written in the order of the rows, read in runs.

The C++ reader writes them while it reads (csrc/reader/segment.h); what is read again by `chunks` is
let go of afterwards, so that a pass over a column holds one run of rows.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import Layout
from .table import Table, merge_ids

CHUNK_ROWS = 1 << 20
"""Rows of a pass that are in memory at a time."""
_HELD_ROWS = 1 << 18  # by the C++ reader


class Spool:
    """A folder for the columns of one log; who made the folder takes it away."""

    def __init__(self, folder: Path) -> None:
        """In an existing folder."""
        self.folder = folder

    def path(self, name: str) -> Path:
        """The file of a column."""
        return self.folder / f"{name}.column"

    @contextmanager
    def targets(self, layout: Layout) -> Iterator[dict[str, int]]:
        """Open files for the columns of a layout, as `_reader.read` takes them."""
        used = {"users": 0, "items": 0, "times": layout.time, "then": layout.then}
        used["ratings"] = layout.rating
        with ExitStack() as files:
            opened = {
                name: files.enter_context(self.path(name).open("wb", buffering=0)).fileno()
                for name, column in used.items()
                if column >= 0
            }
            yield {**opened, "rows": _HELD_ROWS}

    def column(self, name: str, type: Any) -> NDArray[Any]:
        """A column that was written, mapped."""
        return mapped(self.path(name), type)

    def moments(self, name: str, floats: bool, integers: int) -> NDArray[Any]:
        """A column of times, the first `integers` of which may have to become doubles."""
        if floats and integers:
            with self.path(name).open("r+b", buffering=0) as file:
                for first in range(0, integers, CHUNK_ROWS):
                    count = min(CHUNK_ROWS, integers - first)
                    values = np.frombuffer(os.pread(file.fileno(), 8 * count, 8 * first), np.int64)
                    file.seek(8 * first)
                    file.write(values.astype(np.float64).data)
        return self.column(name, np.float64 if floats else np.int64)

    def part(self, number: int) -> "Spool":
        """A spool of its own for one of several files."""
        folder = self.folder / f"part{number}"
        folder.mkdir()
        return Spool(folder)

    def joined(self, tables: Sequence[Table]) -> Table:
        """What `table.concatenate` gives, its columns written."""
        some = [table for table in tables if len(table.users)] or list(tables[:1])
        user_ids, users = merge_ids([table.user_ids for table in some])
        item_ids, items = merge_ids([table.item_ids for table in some])
        found = Table(
            self._join("users", [table.users for table in some], users),
            self._join("items", [table.items for table in some], items),
            user_ids,
            item_ids,
        )
        for name in ("times", "ratings", "then"):
            columns = [getattr(table, name) for table in some]
            setattr(found, name, None if columns[0] is None else self._join(name, columns))
        return found

    def _join(
        self,
        name: str,
        columns: Sequence[NDArray[Any]],
        codes: Sequence[NDArray[np.int32]] | None = None,
    ) -> NDArray[Any]:
        """Columns end to end, as what their codes have become."""
        type = np.result_type(*(column.dtype for column in columns))
        with self.path(name).open("wb") as file:
            for number, column in enumerate(columns):
                for _, (part,) in chunks(column):
                    new = part if codes is None else codes[number][part]
                    file.write(new.astype(type, copy=False).data)
        return self.column(name, type)

    def marks(self, rows: int) -> NDArray[np.bool_]:
        """A mark for each row, all set, bool [rows]."""
        marks = np.memmap(self.path("marks"), np.bool_, "w+", shape=(rows,))
        for _, (part,) in chunks(marks):
            part[:] = True
        return marks


def mapped(path: Path, type: Any) -> NDArray[Any]:
    """A file of numbers as an array that cannot be written."""
    if not path.stat().st_size:
        return np.empty(0, type)
    return np.memmap(path, type, "r")


def chunks(*columns: Any, rows: int = 0) -> Iterator[tuple[int, list[Any]]]:
    """Runs of rows of columns of one length: the first row, and each column's part (None: None).

    What is mapped of them is let go of behind each.
    """
    rows = rows or CHUNK_ROWS
    whole = [column for column in columns if column is not None]
    for first in range(0, len(whole[0]), rows):
        yield first, [None if c is None else c[first : first + rows] for c in columns]
        for column in whole:
            let_go(column)


def let_go(array: NDArray[Any]) -> None:
    """Give back the memory of a mapped file; what it holds stays there."""
    held = getattr(array, "_mmap", None)
    if held is not None and hasattr(held, "madvise"):
        held.madvise(mmap.MADV_DONTNEED)
