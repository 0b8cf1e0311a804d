"""Allow and deny lists of a recommender: from external ids to what `ops.top_k` takes.

Lists for everybody become one list of candidates; lists of single histories stay beside them.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data.columns import ColumnNames
from .data.frame import frame_table
from .data.ids import IdIndex, external_id
from .data.table import Table
from .errors import InputError

Numbers = NDArray[np.int32]
NAMES = ("items", "exclude", "items_per_user", "exclude_per_user")


class UnknownItemsWarning(UserWarning):
    """A list names items that the model does not know; they were passed over."""


def require_list(name: str, value: Any, remedy: str) -> None:
    """Refuse a text or a number where a list of ids is meant.

    Raises:
        TypeError: it is one.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is {value!r}: {remedy}")


def user_key(user: Any) -> str:
    """What two ids of one user have in common: 7 and "7" are one id."""
    return user if type(user) is str else str(external_id(user))


class _ByUser:
    """The lists of users, end to end, from a table of a user and an item a row."""

    def __init__(self, table: Table, numbers: Numbers) -> None:
        """`numbers` [n] are the internal items of the table's, 0 where unknown."""
        items = numbers[table.items]
        pairs = np.unique(table.users.astype(np.int64) << 32 | items)  # by user, then item
        pairs = pairs[pairs & 0xFFFFFFFF != 0]
        self._items: Numbers = (pairs & 0xFFFFFFFF).astype(np.int32)
        self._ends = np.searchsorted(pairs >> 32, np.arange(len(table.user_ids)), side="right")
        self._row = {user_key(user): row for row, user in enumerate(table.user_ids.tolist())}

    def get(self, key: str) -> Numbers | None:
        """The list of a user; None where it is not named."""
        row = self._row.get(key)
        if row is None:
            return None
        return self._items[self._ends[row - 1] if row else 0 : self._ends[row]]


class _Lists:
    """One argument: a list for everybody, or one for each user or history."""

    def __init__(self, name: str, given: Any, index: IdIndex) -> None:
        self.name, self._index = name, index
        self.kind = name.removesuffix("_per_user")
        self._named = self._unknown = 0
        self._shown: list[Any] = []
        self.shared: Numbers | None = None
        self.by_user: dict[str, Numbers] | _ByUser | None = None
        self.by_place: list[Numbers] | None = None
        if isinstance(given, Mapping):
            self.by_user = {
                user_key(user): self._numbers(f"{name}[{user!r}]", ids)
                for user, ids in given.items()
            }
        elif isinstance(given, Table) or _is_frame(given):
            self.by_user = self._from_table(given)
        elif self.kind != name:
            raise TypeError(
                f"{name} is {str(given)[:80]!r}: expected lists of item ids by user, or a table of "
                "a user and an item a row"
            )
        else:
            self._read_lists(given)
        self._say()

    def _read_lists(self, given: Any) -> None:
        require_list(self.name, given, f"a list of item ids is {self.name}=[...]")
        listed = _listed(given)
        if listed and _is_list(listed[0]):
            self.by_place = [
                self._numbers(f"{self.name}[{i}]", ids) for i, ids in enumerate(listed)
            ]
        else:
            self.shared = self._numbers(self.name, listed)

    def _from_table(self, given: Any) -> _ByUser:
        table = given
        if not isinstance(given, Table):
            names = ColumnNames(None, None, None, None, False)
            table = frame_table(given, names, False, self.name).table
        numbers = self._index.find(table.item_ids.tolist())
        self._count(numbers, table.item_ids.tolist())
        return _ByUser(table, numbers)

    def _numbers(self, place: str, ids: Any) -> Numbers:
        """The internal items of a list, ascending, each once."""
        require_list(place, ids, "expected a list of item ids")
        listed = _listed(ids)
        try:
            found = self._index.find(listed)
        except InputError as error:
            raise InputError(f"{place}, {error}") from None
        self._count(found, listed)
        return np.unique(found[found != 0])

    def _count(self, found: Numbers, listed: Sequence[Any]) -> None:
        """Notes which of some items are unknown."""
        self._named += len(found)
        missing = np.flatnonzero(found == 0).tolist()
        self._unknown += len(missing)
        self._shown += [listed[i] for i in missing[: 5 - len(self._shown)]]

    def _say(self) -> None:
        if self._unknown:
            shown = ", ".join(map(repr, self._shown)) + (", ..." if self._unknown > 5 else "")
            warnings.warn(
                f"{self.name}: {self._unknown} of {self._named} items are unknown to the model and "
                f"were passed over ({shown})",
                UnknownItemsWarning,
                stacklevel=6,
            )

    def of(self, users: Sequence[Any] | None, count: int) -> list[Numbers | None] | None:
        """The list of each history, None where it has none; None for lists of everybody."""
        if self.by_user is not None:
            if users is None:
                raise InputError(
                    f"{self.name} is by user, but nobody said whose the histories are: give them "
                    "by user, too, or give a list of lists"
                )
            return [self.by_user.get(user_key(user)) for user in users]
        if self.by_place is not None and len(self.by_place) != count:
            raise InputError(
                f"{self.name} holds {len(self.by_place)} lists for {count} histories: give one for "
                "each, or one list of item ids for all"
            )
        return None if self.by_place is None else [*self.by_place]


def _listed(ids: Any) -> list[Any]:
    listed = ids.tolist() if isinstance(ids, np.ndarray) and ids.ndim == 1 else list(ids)
    return [listed] if isinstance(listed, str) else listed


def _is_frame(value: Any) -> bool:
    names = getattr(value, "columns", getattr(value, "column_names", None))
    return names is not None or bool(getattr(getattr(value, "dtype", None), "names", None))


def _is_list(value: Any) -> bool:
    if isinstance(value, str | bytes) or getattr(value, "ndim", 1) == 0:
        return False
    return isinstance(value, Iterable)


@dataclass(frozen=True)
class OwnLists:
    """The lists of N single histories; None where nobody has one.

    Attributes:
        items: the only items of each history, or None.
        exclude: items that each history must not get, or None.
    """

    items: list[Numbers | None] | None = None
    exclude: list[Numbers | None] | None = None


class Filters:
    """Which items may be recommended.

    Attributes:
        candidates: int32 [A], those that may be recommended at all, ascending; None for all.
    """

    def __init__(
        self,
        index: IdIndex,
        classes: int,
        given: Mapping[str, Any],
        within: "Filters | None" = None,
    ) -> None:
        """Read the lists once.

        Args:
            index: external item id to internal one.
            classes: item classes, padding included (V).
            given: lists by the argument's name: `items` that may be recommended and those to
                `exclude`, as item ids, lists by user or one a history; `items_per_user` and
                `exclude_per_user`, as lists by user or a table.
            within: other filters that hold, too.

        Raises:
            TypeError: a text or a number instead of a list.
            InputError: what is no id, or nothing is left for anybody.
        """
        lists = [_Lists(name, given[name], index) for name in NAMES if name in given]
        if len(lists) < len(given):
            raise TypeError(f"unknown lists {sorted(set(given) - set(NAMES))}, expected {NAMES}")
        self._lists: list[_Lists] = [*(within._lists if within else []), *lists]
        self.candidates: Numbers | None = within.candidates if within else None
        shared = [part for part in lists if part.shared is not None]
        if shared:
            self.candidates = self._left(shared, classes)

    def _left(self, lists: list[_Lists], classes: int) -> Numbers:
        left = np.zeros(classes, np.bool_)  # [V]
        left[slice(1, None) if self.candidates is None else self.candidates] = True
        for part in lists:
            if part.name == "exclude":
                left[part.shared] = False
            else:
                allowed = np.zeros(classes, np.bool_)
                allowed[part.shared] = True
                left &= allowed
        found = np.flatnonzero(left).astype(np.int32)
        if not len(found):
            names = " and ".join(f"{part.name} ({len(part.shared)} known)" for part in lists)  # type: ignore[arg-type]
            raise InputError(
                f"nothing left to recommend: {names} leave none of {classes - 1} items"
            )
        return found

    def of(self, users: Sequence[Any] | None, count: int) -> OwnLists:
        """The lists of `count` single histories.

        Raises:
            InputError: lists by user for histories of nobody, or not one list a history.
        """
        found: dict[str, list[Numbers | None]] = {}
        for part in self._lists:
            own = part.of(users, count)
            if own is None:
                continue
            before = found.get(part.kind)
            join = np.intersect1d if part.kind == "items" else np.union1d
            found[part.kind] = (
                own
                if before is None
                else [
                    a if b is None else b if a is None else join(a, b)
                    for a, b in zip(before, own, strict=True)
                ]
            )
        return OwnLists(**found)
