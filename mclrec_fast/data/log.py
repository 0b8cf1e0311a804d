"""The interaction log in memory: users x items in CSR form, with the external ids beside it.

A training sample is a pair (user, end) into this log (samples.py); no prefix is ever stored.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .ids import IdIndex

Times = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """All interactions, grouped by user and in time order inside a user.

    Attributes:
        items: int32 [I], internal item ids 1..n_items.
        offsets: int64 [U + 1], where each user's items start.
        times: int64 or float64 [I], or None where the source has none.
        user_ids: external user ids [U], int64 or str objects.
        item_ids: external item ids [n_items + 1]; entry 0 is unused (padding).
        sha256: of the source file, or of the content where there is no file.
        source: where the log comes from, for people.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    times: Times | None
    user_ids: NDArray[Any]
    item_ids: NDArray[Any]
    sha256: str = ""
    source: str = ""

    @property
    def n_users(self) -> int:
        """Users (U)."""
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        """Distinct items, padding not counted."""
        return len(self.item_ids) - 1

    @property
    def n_classes(self) -> int:
        """Item classes of the softmax (V): the items and padding 0."""
        return len(self.item_ids)

    @property
    def n_interactions(self) -> int:
        """Interactions (I)."""
        return len(self.items)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Interactions of each user, int64 [U]."""
        return np.diff(self.offsets)

    def sequence(self, user: int) -> NDArray[np.int32]:
        """The items of one user in time order (a view)."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    @cached_property
    def item_index(self) -> IdIndex:
        """External item id -> internal item id; 0 for an unknown one."""
        return IdIndex(self.item_ids, first=1, missing=0)

    @cached_property
    def user_index(self) -> IdIndex:
        """External user id -> row of the log; -1 for an unknown one."""
        return IdIndex(self.user_ids, first=0, missing=-1)


def match_items(log: InteractionLog, item_ids: NDArray[Any], owner: str) -> InteractionLog:
    """A log whose items are numbered as a run numbers them.

    Args:
        log: any log; it may lack some of the run's items.
        item_ids: the run's external item ids [n_items + 1], entry 0 unused.
        owner: whose numbering that is, for messages.

    Raises:
        InputError: the log has items that the run does not know: another data set.
    """
    if item_ids.dtype == log.item_ids.dtype and np.array_equal(item_ids, log.item_ids):
        return log
    codes = IdIndex(item_ids, first=1, missing=0).find(log.item_ids[1:].tolist())
    unknown = log.item_ids[1:][codes == 0]
    if len(unknown):
        shown = ", ".join(repr(value) for value in unknown[:5].tolist())
        raise InputError(
            f"{log.source}: {len(unknown)} of its {log.n_items} items are unknown to {owner} "
            f"({shown}{', ...' if len(unknown) > 5 else ''}), which knows {len(item_ids) - 1}: "
            "it was trained on another data set or with other filters"
        )
    renumber = np.concatenate([np.zeros(1, dtype=np.int32), codes])
    return replace(log, items=renumber[log.items], item_ids=item_ids)


def pick_users(log: InteractionLog, users: Iterable[Any]) -> InteractionLog:
    """Some users of a log by their ids, in the order given.

    Raises:
        TypeError: a text or a number instead of a list of ids.
        InputError: a user is not in the log, or an id is neither an integer nor text.
    """
    if isinstance(users, str | bytes) or not isinstance(users, Iterable):
        raise TypeError(f"users is {users!r}: one user alone is users=[...]")
    listed = list(users)
    try:
        rows = log.user_index.find(listed)
    except InputError as error:
        raise InputError(f"users, {error}") from None
    missing = [listed[i] for i in np.flatnonzero(rows < 0).tolist()]
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise InputError(
            f"{log.source or 'the log'}: {len(missing)} of {len(listed)} users are not in it "
            f"({shown}); whoever is new is answered by a history"
        )
    items = [log.sequence(row) for row in rows.tolist()]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(log.lengths[rows])])
    picked = np.concatenate([log.items[:0], *items])
    return replace(log, items=picked, offsets=offsets, times=None, user_ids=log.user_ids[rows])


def content_digest(log: InteractionLog) -> str:
    """SHA-256 of what a log holds, the same on every machine; for logs that have no file."""
    digest = hashlib.sha256()
    for array in (log.items, log.offsets, log.times, log.user_ids, log.item_ids[1:]):
        if array is None:
            digest.update(b"none;")
        elif array.dtype == object:
            texts = [str(value).encode() for value in array]
            digest.update(b"".join(b"%d:%s," % (len(text), text) for text in texts))
        else:
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        digest.update(b";")
    return digest.hexdigest()
