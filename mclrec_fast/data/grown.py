"""A log that grew: rows behind those of an earlier one, items behind those of a catalogue.

A catalogue only grows: what it holds keeps its place, and new items come behind, in the order of
their first rows. Numbering a log by a catalogue is other.py's `in_numbers_of`.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import epoch_unit
from .ids import IdIndex, as_objects
from .log import InteractionLog
from .other import Rows, equal_rows, in_numbers_of, nothing_known, ranges
from .table import Table, concatenate


def appended(table: Table, more: Table, source: str) -> tuple[Table, int]:
    """A log's rows, then those of one that came later, and how many of these it had already.

    Rows of one user, item and time count once, as far as the later log repeats the first.

    Args:
        table: the first log's rows.
        more: the later one's.
        source: where the later one comes from, for messages.

    Raises:
        InputError: the later log has no times and the first has, or in another unit; it repeats the
            first and has no times to tell by; it has ids of another kind.
    """
    if table.times is None:
        more.times = None
    elif more.times is None:
        raise InputError(
            f"{source}: has no times, but the log before it has: name the column with --time-col, "
            "or read both without (--ignore-times)"
        )
    elif epoch_unit(float(table.times.max())) != epoch_unit(float(more.times.max())):
        raise InputError(
            f"{source}: its times are in another unit than those of the log before it "
            f"({more.times.max()} and {table.times.max()}): write both alike"
        )
    first = len(table.users)
    kinds = {ids.dtype == object for ids in (table.item_ids, more.item_ids)}
    both = concatenate([table, more])
    if len(kinds) == 2 and not np.isin(both.items[first:], both.items[:first]).any():
        raise InputError(
            f"{source}: none of its items is in the log before it, and one's ids are integers, the "
            f"other's text ({more.item_ids.tolist()[0]!r}, {table.item_ids.tolist()[0]!r}): are "
            "the ids written alike, and is the item column the right one?"
        )
    if both.times is None:
        if _begins_alike(both, first):
            raise InputError(
                f"{source}: holds the log before it, and without times its new rows cannot be told "
                "from the old ones: give the new rows alone, or this log as --data"
            )
        return both, 0
    again = equal_rows(_rows_of(both, first))[first:] < first
    keep = np.concatenate([np.ones(first, np.bool_), ~again])
    for name in ("users", "items", "times", "ratings", "then"):
        column = getattr(both, name)
        setattr(both, name, None if column is None else column[keep])
    return both, int(np.count_nonzero(again))


def _begins_alike(both: Table, first: int) -> bool:
    """Whether the rows from `first` on begin as those before, for most users of both parts."""
    parts = [both.users[:first], both.users[first:]]
    users = [np.unique(part, return_index=True) for part in parts]
    _, old, new = np.intersect1d(users[0][0], users[1][0], True, return_indices=True)
    alike = both.items[users[0][1][old]] == both.items[first + users[1][1][new]]
    return int(np.count_nonzero(alike)) * 2 > len(old)


def _rows_of(both: Table, first: int) -> Rows:
    """The rows of two tables, the first one's before, as other.py compares them."""
    return Rows(
        both.users.astype(np.int64),
        both.items,
        both.times,
        first,
        np.arange(len(both.users)),
        np.empty(0, np.int64),
        np.zeros(first, np.bool_),
    )


def grown_ids(item_ids: NDArray[Any], log: InteractionLog) -> NDArray[Any]:
    """A catalogue with a log's new items behind it, [V], entry 0 unused.

    Integers become text where one of the new ids is text.
    """
    known = IdIndex(item_ids, first=1, missing=0).find(log.item_ids[1:].tolist()) != 0
    if known.all():
        return item_ids
    before, new = item_ids[1:].tolist(), log.item_ids[1:][~known].tolist()
    if item_ids.dtype != object and log.item_ids.dtype != object:
        return np.array([0, *before, *new], dtype=np.int64)
    return as_objects(["", *map(str, before), *map(str, new)])


@dataclass(frozen=True)
class Growth:
    """What a log has that an earlier one had not, and what became of the earlier one's.

    Attributes:
        items: of the grown catalogue.
        new_items: of these, those that are new.
        absent_items: of these, those that the log does not hold.
        users: of the log.
        rows: of the log.
        new_users, changed_users: users who are new; whose histories do not begin as they did. None
            where the earlier log is not at hand.
        first_changed: the first of these.
        absent_users: users of the earlier log who are not in this one.
    """

    items: int
    new_items: int
    absent_items: int
    users: int
    rows: int
    new_users: int | None = None
    changed_users: int | None = None
    first_changed: Any = None
    absent_users: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)

    def render(self) -> str:
        """Lines in the form of the data card's."""
        users = "" if self.new_users is None else f", {self.new_users} of them new"
        texts = [
            ("grown", f"items {self.items - self.new_items} known, {self.new_items} new"),
            ("", f"users {self.users}{users}; rows {self.rows}"),
        ]
        if self.absent_items:
            texts.append(("note", f"{self.absent_items} items are not in the log: they keep rows"))
        if self.absent_users:
            texts.append(("note", f"{self.absent_users} users of before are not in the log"))
        if self.changed_users:
            texts.append(
                (
                    "note",
                    f"{self.changed_users} users' histories do not begin as they did (the first: "
                    f"{self.first_changed!r}): they are taken as they are now",
                )
            )
        return "\n".join(f"{label:<13}{text}" for label, text in texts)


def growth(
    item_ids: NDArray[Any], log: InteractionLog, before: InteractionLog | None = None
) -> Growth:
    """What a log adds to a catalogue and, where that is at hand, to an earlier log.

    Args:
        item_ids: the catalogue [V], entry 0 unused.
        log: the log, as it was read.
        before: the log that the catalogue is of.

    Raises:
        InputError: the log holds no item of the catalogue; or most histories of before are gone.
    """
    wider = grown_ids(item_ids, log)
    new = len(wider) - len(item_ids)
    if new == log.n_items:
        raise InputError(nothing_known(log, item_ids))
    absent = len(item_ids) - 1 - (log.n_items - new)
    found = Growth(len(wider) - 1, new, absent, log.n_users, log.n_interactions)
    if before is None:
        return found
    kept = _histories(before, in_numbers_of(log, wider)[0], wider)
    shared = np.flatnonzero(kept.rows >= 0)
    gone = int(np.count_nonzero(kept.gone[shared]))
    if gone * 2 > len(shared):
        raise InputError(
            f"{log.source}: of {len(shared)} users who were there before, {gone} have nothing left "
            f"of what {before.source} holds of them (the first: "
            f"{_user(before, shared[kept.gone[shared]])!r}): are these only the new rows "
            "(then give them as --more), or does an id mean something else now?"
        )
    changed = shared[~kept.kept[shared]]
    return Growth(
        **found.to_dict()
        | {
            "new_users": log.n_users - len(shared),
            "changed_users": len(changed),
            "first_changed": _user(before, changed) if len(changed) else None,
            "absent_users": before.n_users - len(shared),
        }
    )


class _Histories(NamedTuple):
    """What became of each user of an earlier log.

    Attributes:
        rows: int32 [U], the user's row in the other log, -1 for one who is not in it.
        kept: bool [U], the history begins there as it was.
        gone: bool [U], nothing of it is there.
    """

    rows: NDArray[np.int32]
    kept: NDArray[np.bool_]
    gone: NDArray[np.bool_]


def _histories(before: InteractionLog, log: InteractionLog, item_ids: NDArray[Any]) -> _Histories:
    """Compare the histories of two logs; `log` and `item_ids` number the items alike."""
    codes = IdIndex(item_ids, first=1, missing=0).find(before.item_ids[1:].tolist())
    items = np.concatenate([np.zeros(1, np.int32), codes])[before.items]  # [I]
    rows = log.user_index.find(before.user_ids.tolist())
    owner = np.repeat(np.arange(before.n_users), before.lengths)  # [I]
    place = ranges(np.zeros(before.n_users, np.int64), before.lengths)  # [I]
    fits = place < log.lengths[rows[owner]]
    at = np.minimum(log.offsets[rows[owner]] + place, max(log.n_interactions - 1, 0))
    same = fits & (log.items[at] == items)
    width = len(item_ids)
    theirs = np.repeat(np.arange(log.n_users), log.lengths) * width + log.items
    there = np.isin(rows[owner].astype(np.int64) * width + items, theirs)
    known = before.n_users
    kept = np.bincount(owner, weights=~same, minlength=known) == 0
    return _Histories(rows, kept, np.bincount(owner, weights=there, minlength=known) == 0)


def _user(log: InteractionLog, rows: NDArray[np.int64]) -> Any:
    """The id of the first of some users."""
    return log.user_ids[rows[:1]].tolist()[0]
