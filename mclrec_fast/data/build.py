"""From a table of rows to the interaction log: filters, renumbering, stable sort, CSR.

Order of the filters: ratings, then one item once per user (the earliest), then the k-core. Ids are
renumbered by first appearance, in file order, among the rows that are left.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .log import InteractionLog, Times
from .table import Table


@dataclass(frozen=True)
class Filters:
    """What to leave out.

    Attributes:
        min_rating: keep rows rated at least this.
        ratings_needed: False lets a table without ratings be read whole.
        dedupe: "first" keeps an item once per user, the earliest; "exact" keeps the first of rows
            that are equal in all columns that are read; "none" keeps all.
        min_user: keep users with at least so many interactions.
        min_item: keep items with at least so many interactions; both hold at the end.
    """

    min_rating: float | None = None
    dedupe: str = "none"
    min_user: int = 0
    min_item: int = 0
    ratings_needed: bool = True

    def any(self) -> bool:
        """Whether any row can go."""
        rare = self.min_user > 1 or self.min_item > 1
        return rare or self.min_rating is not None or self.dedupe != "none"


@dataclass(frozen=True)
class Removed:
    """Rows that each filter took away."""

    rating: int = 0
    dedupe: int = 0
    core: int = 0


def _compact(codes: NDArray[np.int32], ids: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Renumber codes by first appearance and keep the ids that are left."""
    first = np.full(len(ids), len(codes), dtype=np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    used = np.flatnonzero(first < len(codes))
    order = used[np.argsort(first[used], kind="stable")]
    renumber = np.zeros(len(ids), dtype=np.int32)
    renumber[order] = np.arange(len(order), dtype=np.int32)
    return renumber[codes], ids[order]


def core_mask(
    users: NDArray[np.int32], items: NDArray[np.int32], min_user: int, min_item: int
) -> NDArray[np.bool_]:
    """Which rows are in the (min_user, min_item)-core, bool [R].

    The core is the largest set of rows in which every user has at least `min_user` rows and every
    item at least `min_item`; it does not depend on the order of removal.
    """
    rows = np.arange(len(users))
    while True:
        user_counts = np.bincount(users[rows])
        item_counts = np.bincount(items[rows])
        stay = (user_counts[users[rows]] >= min_user) & (item_counts[items[rows]] >= min_item)
        if stay.all():
            break
        rows = rows[stay]
    mask = np.zeros(len(users), dtype=np.bool_)
    mask[rows] = True
    return mask


def first_mask(table: Table) -> NDArray[np.bool_]:
    """The earliest row of each (user, item) pair, ties in file order, bool [R]."""
    pair = table.users.astype(np.int64) * len(table.item_ids) + table.items
    if table.times is None:
        first = np.unique(pair, return_index=True)[1]
    else:
        keys = [table.times] if table.then is None else [table.then, table.times]
        order = np.lexsort(keys)
        first = order[np.unique(pair[order], return_index=True)[1]]
    mask = np.zeros(len(pair), dtype=np.bool_)
    mask[first] = True
    return mask


def distinct_mask(table: Table) -> NDArray[np.bool_]:
    """The first of rows that are equal in every column, bool [R]."""
    columns = (table.users, table.items, table.times, table.then, table.ratings)
    keys = [column for column in columns if column is not None]
    order = np.lexsort(keys)
    again = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for key in keys:
        ordered = key[order]
        again &= ordered[1:] == ordered[:-1]
    mask = np.ones(len(order), dtype=np.bool_)
    mask[order[1:][again]] = False
    return mask


def _keep(table: Table, mask: NDArray[np.bool_]) -> int:
    """Keep the rows of a mask; how many went."""
    gone = len(mask) - int(np.count_nonzero(mask))
    if gone:
        table.users, table.items = table.users[mask], table.items[mask]
        table.times = None if table.times is None else table.times[mask]
        table.ratings = None if table.ratings is None else table.ratings[mask]
        table.then = None if table.then is None else table.then[mask]
    return gone


def apply_filters(
    table: Table, filters: Filters, source: str, empty_is_fine: bool = False
) -> Removed:
    """Take rows out of a table, in place, and renumber its ids.

    Raises:
        InputError: a filter leaves nothing, unless the table is one of several parts.
    """
    rating = dedupe = core = 0
    if filters.min_rating is not None:
        rating = _keep(table, require_ratings(table, source) >= filters.min_rating)
        if not empty_is_fine:
            refuse_nothing(len(table.users), source, f"--min-rating {filters.min_rating:g}")
    if filters.dedupe == "first":
        dedupe = _keep(table, first_mask(table))
    elif filters.dedupe == "exact":
        dedupe = _keep(table, distinct_mask(table))
    if filters.min_user > 1 or filters.min_item > 1:
        mask = core_mask(table.users, table.items, filters.min_user, filters.min_item)
        core = _keep(table, mask)
        option = f"--min-user {filters.min_user} --min-item {filters.min_item}"
        refuse_nothing(len(table.users), source, option)
    if rating or dedupe or core:
        table.users, table.user_ids = _compact(table.users, table.user_ids)
        table.items, table.item_ids = _compact(table.items, table.item_ids)
    return Removed(rating, dedupe, core)


def require_ratings(table: Table, source: str) -> NDArray[np.float64]:
    """The ratings of a table.

    Raises:
        InputError: it has none.
    """
    if table.ratings is None:
        raise InputError(f"{source}: --min-rating needs ratings, and there are none")
    return table.ratings


def refuse_nothing(rows: int, source: str, option: str) -> None:
    """Refuse a filter that leaves no rows.

    Raises:
        InputError: it does.
    """
    if not rows:
        raise InputError(f"{source}: {option} leaves no interactions")


def _time_order(users: NDArray[np.int32], times: Times | None) -> NDArray[np.int64]:
    """Rows by user, then by time, ties in file order, int64 [R]."""
    if times is None or not len(times):
        return np.argsort(users, kind="stable")
    if times.dtype == np.int64:
        low, high = int(times.min()), int(times.max())
        span = high - low + 1
        if int(users.max()) * span + span < 2**63:  # one sort instead of two
            key = users.astype(np.int64)
            key *= span
            key += np.asarray(times, dtype=np.int64)
            key -= low
            return np.argsort(key, kind="stable")
    order = np.argsort(times, kind="stable")
    return order[np.argsort(users[order], kind="stable")]


class Csr(NamedTuple):
    """Interactions grouped by user: items int32 [I] from 1, offsets int64 [U + 1], times [I]."""

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    times: Times | None


def to_csr(
    users: NDArray[np.int32], items: NDArray[np.int32], times: Times | None, n_users: int
) -> Csr:
    """Group rows by user and sort each user's by time, both stable.

    Args:
        users: int32 [R], 0..n_users-1.
        items: int32 [R], 0..n_items-1.
        times: int64 or float64 [R], or None for file order.
        n_users: U.

    Returns:
        The groups; items are counted from 1, because 0 is padding.
    """
    offsets = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=n_users), out=offsets[1:])
    order = _time_order(users, times)
    return Csr(items[order] + np.int32(1), offsets, None if times is None else times[order])


def with_padding(ids: NDArray[Any]) -> NDArray[Any]:
    """External item ids with an unused entry 0 in front."""
    padding: Any = "" if ids.dtype == object else 0
    return np.concatenate([np.array([padding], dtype=ids.dtype), ids])


def build_log(csr: Csr, table: Table, sha256: str, source: str) -> InteractionLog:
    """The log of a table whose filters have been applied and whose rows are grouped."""
    return InteractionLog(
        csr.items,
        csr.offsets,
        csr.times,
        table.user_ids,
        with_padding(table.item_ids),
        sha256,
        source,
    )
