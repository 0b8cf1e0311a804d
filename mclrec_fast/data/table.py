"""What a reader hands over: one row per interaction, ids already coded, in file order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Table:
    """Interactions in file order (R rows).

    Attributes:
        users: int32 [R], codes into `user_ids`, numbered by first appearance.
        items: int32 [R], codes into `item_ids`, numbered by first appearance.
        user_ids: external user ids, int64 when every id is a canonical integer, else str objects.
        item_ids: external item ids, likewise.
        times: int64 or float64 [R] (float64 as soon as one time is not an integer), or None.
        ratings: float64 [R], or None.
        then: what breaks ties of the times, int64 or float64 [R], or None.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    user_ids: NDArray[Any]
    item_ids: NDArray[Any]
    times: NDArray[np.int64] | NDArray[np.float64] | None = None
    ratings: NDArray[np.float64] | None = None
    then: NDArray[np.int64] | NDArray[np.float64] | None = None

    def clear(self) -> None:
        """Let go of the rows; the ids stay."""
        self.users = self.items = np.empty(0, dtype=np.int32)
        self.times = self.ratings = self.then = None


def _as_texts(ids: NDArray[Any]) -> list[str]:
    return [str(value) for value in ids.tolist()]


def merge_ids(tables: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], list[NDArray[np.int32]]]:
    """One numbering for several, by first appearance, and what each one's codes become."""
    text = any(ids.dtype == object for ids in tables)
    codes: dict[Any, int] = {}
    renumber = [
        np.array(
            [
                codes.setdefault(value, len(codes))
                for value in (_as_texts(ids) if text else ids.tolist())
            ],
            dtype=np.int32,
        )
        for ids in tables
    ]
    merged = np.empty(len(codes), dtype=object if text else np.int64)
    merged[:] = list(codes)
    return merged, renumber


def take_rows(table: Table, rows: slice) -> Table:
    """Some rows of a table, with the ids that are in them."""

    def some(column: NDArray[Any] | None) -> Any:
        return None if column is None else column[rows]

    users, user_ids = _used(table.users[rows], table.user_ids)
    items, item_ids = _used(table.items[rows], table.item_ids)
    return Table(
        users, items, user_ids, item_ids, some(table.times), some(table.ratings), some(table.then)
    )


def _used(codes: NDArray[np.int32], ids: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes, numbered by first appearance as before, and the ids that they use."""
    there = np.zeros(len(ids), np.bool_)
    there[codes] = True
    number = (np.cumsum(there) - 1).astype(np.int32)
    return number[codes], ids[there]


def concatenate(tables: Sequence[Table]) -> Table:
    """Tables with the same columns as one, rows in order; text as soon as one has text ids.

    The ids of a table without rows do not count.
    """
    some = [table for table in tables if len(table.users)] or list(tables[:1])
    if len(some) == 1:
        return some[0]
    user_ids, users = merge_ids([table.user_ids for table in some])
    item_ids, items = merge_ids([table.item_ids for table in some])
    joined = {}
    for name in ("times", "ratings", "then"):
        columns = [getattr(table, name) for table in some]
        joined[name] = None if columns[0] is None else np.concatenate(columns)
    return Table(
        np.concatenate([codes[table.users] for codes, table in zip(users, some, strict=True)]),
        np.concatenate([codes[table.items] for codes, table in zip(items, some, strict=True)]),
        user_ids,
        item_ids,
        **joined,
    )
