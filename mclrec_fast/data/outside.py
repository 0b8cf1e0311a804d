"""Filters and grouping of rows that may be larger than memory: what build.py does, in passes.

Rows stay where they are; which are left and what their ids have become is kept beside them.
Grouping deals rows to files by ranges of users, each of which fits into memory, is sorted there and
comes out whole. The result is that of build.py, bit for bit.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import census, reader
from .build import Csr, Filters, Removed, distinct_mask, first_mask, refuse_nothing, require_ratings
from .spool import Spool, chunks
from .table import Table

RANGE_ROWS = 1 << 22
"""Rows that are sorted in memory at a time, about."""
_MOST_RANGES = 200  # files open at a time


@dataclass
class Left:
    """What filters left of a table.

    Attributes:
        table: the rows, all of them; its ids are those that are left.
        marks: bool [R], which rows are left; None where all are.
        users, items: int32, what the codes of the rows have become; None where they have not.
        removed: how many went.
    """

    table: Table
    marks: NDArray[np.bool_] | None
    users: NDArray[np.int32] | None
    items: NDArray[np.int32] | None
    removed: Removed

    def chunks(self) -> Iterator[Table]:
        """The rows that are left, numbered anew, some at a time."""
        table = self.table
        columns = (table.users, table.items, table.times, table.then, self.marks)
        for _, (users, items, times, then, marks) in chunks(*columns):
            if marks is not None:
                users, items = users[marks], items[marks]
                times = None if times is None else times[marks]
                then = None if then is None else then[marks]
            if self.users is not None and self.items is not None:
                users, items = self.users[users], self.items[items]
            yield Table(users, items, table.user_ids, table.item_ids, times, None, then)


def filtered(table: Table, filters: Filters, source: str, spool: Spool) -> Left:
    """What `build.apply_filters` leaves of a table, whose rows stay as they are.

    Raises:
        InputError: as there.
    """
    if filters.min_rating is not None:
        require_ratings(table, source)
    if not filters.any():
        return Left(table, None, None, None, Removed())
    marks = spool.marks(len(table.users))
    gone = {"rating": 0, "dedupe": 0, "core": 0}
    if filters.min_rating is not None:
        for _, (ratings, left) in chunks(table.ratings, marks):
            left &= ratings >= filters.min_rating
            gone["rating"] += len(left) - int(np.count_nonzero(left))
        refuse_nothing(_count(marks), source, f"--min-rating {filters.min_rating:g}")
    if filters.dedupe != "none":
        gone["dedupe"] = _drop_repeats(table, marks, filters.dedupe)
    if filters.min_user > 1 or filters.min_item > 1:
        gone["core"] = _drop_outside_core(table, marks, filters.min_user, filters.min_item)
        option = f"--min-user {filters.min_user} --min-item {filters.min_item}"
        refuse_nothing(_count(marks), source, option)
    if not any(gone.values()):
        return Left(table, None, None, None, Removed())
    users, table.user_ids = _numbered_anew(table.users, marks, table.user_ids)
    items, table.item_ids = _numbered_anew(table.items, marks, table.item_ids)
    return Left(table, marks, users, items, Removed(**gone))


def _count(marks: NDArray[np.bool_]) -> int:
    return sum(int(np.count_nonzero(part)) for _, (part,) in chunks(marks))


def _drop_repeats(table: Table, marks: NDArray[np.bool_], dedupe: str) -> int:
    """Unmarks rows that repeat, some users after the others; how many."""
    passes = -(-len(marks) // RANGE_ROWS)
    mask_of = first_mask if dedupe == "first" else distinct_mask
    columns = (table.users, table.items, table.times, table.ratings, table.then, marks)
    gone = 0
    for turn in range(passes):
        places, parts = [], []
        for first, (*part, left) in chunks(*columns):
            rows = np.flatnonzero(left & (part[0] % passes == turn))
            places.append(rows + first)
            parts.append([None if column is None else column[rows] for column in part])
        joined: list[Any] = [
            None if of[0] is None else np.concatenate(of) for of in zip(*parts, strict=True)
        ]
        users, items, times, ratings, then = joined
        some = Table(users, items, table.user_ids, table.item_ids, times, ratings, then)
        repeats = np.concatenate(places)[~mask_of(some)]
        marks[repeats] = False
        gone += len(repeats)
    return gone


def _drop_outside_core(table: Table, marks: NDArray[np.bool_], min_user: int, min_item: int) -> int:
    """Unmarks rows outside the core, see `build.core_mask`; how many."""
    gone = 0
    while True:
        of_users = np.zeros(len(table.user_ids), np.int64)
        of_items = np.zeros(len(table.item_ids), np.int64)
        for _, (users, items, left) in chunks(table.users, table.items, marks):
            of_users += np.bincount(users[left], minlength=len(of_users))
            of_items += np.bincount(items[left], minlength=len(of_items))
        before = gone
        for _, (users, items, left) in chunks(table.users, table.items, marks):
            rare = left & ((of_users[users] < min_user) | (of_items[items] < min_item))
            gone += int(np.count_nonzero(rare))
            left &= ~rare
        if gone == before:
            return gone


def _numbered_anew(
    codes: NDArray[np.int32], marks: NDArray[np.bool_], ids: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """What each code becomes (-1: none of its rows is left), and the ids that are left."""
    number = np.full(len(ids), -1, np.int32)
    count, order = 0, [np.empty(0, np.int32)]
    for _, (part, left) in chunks(codes, marks):
        kept = part[left]
        new, first = np.unique(kept[number[kept] < 0], return_index=True)
        order.append(new[np.argsort(first)])
        number[order[-1]] = np.arange(count, count + len(new))
        count += len(new)
    return number, ids[np.concatenate(order)]


class Group(NamedTuple):
    """Some users in a row, whole: `first` .. of the log, rows sorted as `reader.group_rows` does.

    Attributes:
        csr: their rows.
        still_tied: of these, see `census.still_tied`; 0 where nothing breaks ties.
    """

    first: int
    csr: Csr
    still_tied: int


def groups(left: Left, spool: Spool, chosen: str, threads: int) -> Iterator[Group]:
    """The rows by user, from the first user to the last.

    Args:
        left: the rows.
        spool: where they are dealt to; as large as all of them.
        chosen: "native" or "numpy", as `reader.choose` says.
        threads: how many the C++ reader may use.
    """
    counts = np.zeros(len(left.table.user_ids), np.int64)
    for part in left.chunks():
        counts += np.bincount(part.users, minlength=len(counts))
    before = np.cumsum(counts) - counts  # [U]
    size = max(RANGE_ROWS, -(-int(counts.sum()) // _MOST_RANGES))
    starts = np.flatnonzero(np.diff(before // size, prepend=-1))
    bounds = [*starts.tolist(), len(counts)]
    _deal(left, spool, starts, len(counts))
    for number, (first, end) in enumerate(itertools.pairwise(bounds)):
        path = spool.path(f"range{number}")
        rows = np.fromfile(path, _record_of(left.table))
        path.unlink()
        table = Table(
            rows["user"] - np.int32(first),
            np.ascontiguousarray(rows["item"]),
            np.arange(end - first),
            left.table.item_ids,
            np.ascontiguousarray(rows["time"]) if "time" in rows.dtype.fields else None,  # type: ignore[operator]
            None,
            np.ascontiguousarray(rows["then"]) if "then" in rows.dtype.fields else None,  # type: ignore[operator]
        )
        del rows
        tied = 0 if table.then is None else census.still_tied(table)
        yield Group(first, reader.group_rows(table, chosen, threads), tied)


def _record_of(table: Table) -> np.dtype[Any]:
    """A row of a range's file."""
    fields: list[Any] = [("user", np.int32), ("item", np.int32)]
    fields += [] if table.times is None else [("time", table.times.dtype)]
    fields += [] if table.then is None else [("then", table.then.dtype)]
    return np.dtype(fields)


def _deal(left: Left, spool: Spool, starts: NDArray[np.int64], n_users: int) -> None:
    """Writes the rows to one file for each range of users, in their order."""
    lengths = np.diff(starts, append=n_users)
    range_of = np.repeat(np.arange(len(starts), dtype=np.uint8), lengths)  # [U]
    record = _record_of(left.table)
    with ExitStack() as files:
        to = [
            files.enter_context(spool.path(f"range{n}").open("wb", buffering=0))
            for n in range(len(starts))
        ]
        for part in left.chunks():
            ranges = range_of[part.users]
            order = np.argsort(ranges, kind="stable")
            rows = np.empty(len(order), record)
            rows["user"], rows["item"] = part.users[order], part.items[order]
            if part.times is not None:
                rows["time"] = part.times[order]
            if part.then is not None:
                rows["then"] = part.then[order]
            ends = np.cumsum(np.bincount(ranges, minlength=len(to))).tolist()
            for file, first, end in zip(to, [0, *ends], ends, strict=False):
                if end > first:
                    _write(file, rows[first:end])


def _write(file: Any, rows: NDArray[Any]) -> None:
    """All of it: an unbuffered file may take less at a time."""
    view = rows.view(np.uint8).data
    while len(view):
        view = view[file.write(view) :]
