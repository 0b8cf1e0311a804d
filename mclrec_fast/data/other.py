"""Another log than the one a model learned from, read in the model's own item numbers.

Rows of items that the model does not know are passed over and counted. What was known of a user
before, in the log the model learned from, may go before what the other log holds. Nothing is ranked
here; evaluation.py does that.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import epoch_unit
from .ids import IdIndex
from .log import InteractionLog
from .samples import Samples

TARGETS = ("last", "all")
PASTS = ("auto", "file", "run")


@dataclass(frozen=True)
class Known:
    """What part of another log a model knows, and what was made of it.

    Attributes:
        rows, items, users: of the log.
        known_rows, known_items: of these, those of items that the model knows.
        known_users: users whose histories the earlier log holds; None where there is none.
        unknown_last: users whose last row is of an item that the model does not know.
        no_history: targets that nothing known goes before.
        learned: targets that the model was trained on; None where that cannot be told.
        past: "run" where the earlier log's histories go before the log's, else "file".
    """

    rows: int
    known_rows: int
    items: int
    known_items: int
    users: int
    known_users: int | None = None
    unknown_last: int = 0
    no_history: int = 0
    learned: int | None = None
    past: str = "file"

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)

    def render(self) -> str:
        """Lines in the form of the data card's."""
        users = "no log of the run to compare" if self.known_users is None else ""
        users = users or _part(self.known_users or 0, self.users)
        texts = [
            ("known", f"items {_part(self.known_items, self.items)}"),
            ("", f"rows {_part(self.known_rows, self.rows)}"),
            ("", f"users {users}; new users need no training"),
        ]
        before = "what the run's log has of the user, then " if self.past == "run" else ""
        texts.append(("history", f"{before}what the file has before the target"))
        passed = self.rows - self.known_rows
        if passed:
            last = f" ({self.unknown_last} of them a user's last)" if self.unknown_last else ""
            texts.append(
                (
                    "note",
                    f"{passed} rows are of items that the run does not know: passed over{last}",
                )
            )
        if self.no_history:
            texts.append(("note", f"{self.no_history} targets have no history: left out"))
        if self.learned:
            texts.append(
                ("note", f"{self.learned} targets were trained on: not held out for this run")
            )
        return "\n".join(f"{label:<13}{text}" for label, text in texts)


def _part(count: int, whole: int) -> str:
    return f"{count} of {whole} ({count / max(whole, 1):.1%})"


class Asked(NamedTuple):
    """What a model is asked about another log: samples of a log in the model's item numbers."""

    log: InteractionLog
    samples: Samples
    known: Known


def in_numbers_of(
    log: InteractionLog, item_ids: NDArray[Any]
) -> tuple[InteractionLog, NDArray[np.bool_]]:
    """A log's rows of known items, numbered as a model does, and which rows those are, bool [I].

    Args:
        log: any log; users whom nothing is left of stay in it.
        item_ids: the model's external item ids [V], entry 0 unused.
    """
    codes = IdIndex(item_ids, first=1, missing=0).find(log.item_ids[1:].tolist())
    inside = np.concatenate([np.zeros(1, np.int32), codes])[log.items]  # [I]
    kept = inside != 0
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    times = None if log.times is None else log.times[kept]
    found = replace(
        log, items=inside[kept], offsets=before[log.offsets], times=times, item_ids=item_ids
    )
    return found, kept


def samples_left(
    samples: Samples | None, log: InteractionLog, kept: NDArray[np.bool_]
) -> Samples | None:
    """Samples of a log when only some of its rows [I] are left: targets and histories that are."""
    if samples is None:
        return None
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    first = log.offsets[samples.users]
    target = first + samples.ends  # [M], rows
    ends = before[target] - before[first]
    good = kept[target] & (ends > 0)
    return Samples(samples.users[good], ends[good].astype(np.int32))


class Past(NamedTuple):
    """The log that a model learned from, in the model's item numbers.

    Attributes:
        log: the interactions.
        trained: how many of each user's first rows training saw, int64 [U].
    """

    log: InteractionLog
    trained: NDArray[np.int64]

    def counts(self) -> NDArray[np.float32]:
        """How often training saw each item, [V]."""
        lengths = self.log.lengths
        position = ranges(np.zeros(len(lengths), np.int64), lengths)
        seen = self.log.items[position < np.repeat(self.trained, lengths)]
        return np.bincount(seen, minlength=self.log.n_classes).astype(np.float32)


class Rows(NamedTuple):
    """Rows of two logs, those of the earlier one first, for the users of the other.

    Attributes:
        users, items: int [N].
        times: [N]; None where the logs' times cannot be compared.
        of_past: how many rows are the earlier log's.
        stands: int64 [N], for a row of the other log the equal row of the earlier one, else itself.
        firsts: where each known user's rows begin.
        trained: bool, which rows of the earlier log training saw.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[Any] | None
    of_past: int
    stands: NDArray[np.int64]
    firsts: NDArray[np.int64]
    trained: NDArray[np.bool_]


def _comparable(a: InteractionLog, b: InteractionLog) -> bool:
    """Whether both logs have times, in one unit."""
    if a.times is None or b.times is None or not len(a.times) or not len(b.times):
        return False
    return epoch_unit(float(a.times.max())) == epoch_unit(float(b.times.max()))


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers start, start + 1, ... of every range, end to end."""
    before = np.cumsum(counts) - counts
    numbers: NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return numbers


def _rows_of(past: Past, log: InteractionLog, rows: NDArray[np.int32]) -> Rows:
    """Both logs' rows of the users of `log`, whose rows in the earlier log are `rows` (-1: new)."""
    shared = np.flatnonzero(rows >= 0)
    counts = past.log.lengths[rows[shared]]
    starts = past.log.offsets[rows[shared]]
    taken = ranges(starts, counts)
    users = [np.repeat(shared, counts), np.repeat(np.arange(log.n_users), log.lengths)]
    times = None
    if _comparable(past.log, log):
        assert past.log.times is not None and log.times is not None
        times = np.concatenate([past.log.times[taken], log.times])
    found = Rows(
        np.concatenate(users),
        np.concatenate([past.log.items[taken], log.items]),
        times,
        len(taken),
        np.arange(len(taken) + log.n_interactions),
        (np.cumsum(counts) - counts)[counts > 0],
        taken - np.repeat(starts, counts) < np.repeat(past.trained[rows[shared]], counts),
    )
    return found if times is None else found._replace(stands=equal_rows(found))


def equal_rows(rows: Rows) -> NDArray[np.int64]:
    """`stands` of rows that have times: equal are rows of one user, item and time."""
    assert rows.times is not None
    order = np.lexsort((rows.items, rows.times, rows.users))  # stable: the earlier log's first
    new = np.ones(len(order), np.bool_)
    new[1:] = False
    for key in (rows.items, rows.times, rows.users):
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    first = np.empty(len(order), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    own = np.arange(len(order))
    stands: NDArray[np.int64] = np.where((own >= rows.of_past) & (first < rows.of_past), first, own)
    return stands


def _holds_past(rows: Rows) -> bool:
    """Whether the other log begins where the earlier one does, for most users of both."""
    if rows.times is None:
        key = rows.users * (int(rows.items.max(initial=0)) + 1) + rows.items
        there = np.isin(key[rows.firsts], key[rows.of_past :])
    else:
        there = np.isin(rows.firsts, rows.stands[rows.of_past :])
    return int(np.count_nonzero(there)) * 2 > len(rows.firsts)


def _joined(rows: Rows, log: InteractionLog) -> tuple[InteractionLog, NDArray[np.int64]]:
    """Both logs as one, equal rows once, and where the rows of the other stand in it, int64 [I].

    Without times the earlier log goes first.
    """
    users, times = rows.users, rows.times
    keep = rows.stands == np.arange(len(users))
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    order = order[keep[order]]
    place = np.empty(len(users), np.int64)
    place[order] = np.arange(len(order))
    offsets = np.zeros(log.n_users + 1, np.int64)
    np.cumsum(np.bincount(users[keep], minlength=log.n_users), out=offsets[1:])
    times = None if times is None else times[order]
    both = replace(log, items=rows.items[order], offsets=offsets, times=times)
    return both, place[rows.stands[rows.of_past :]]


def ask(
    log: InteractionLog,
    item_ids: NDArray[Any],
    *,
    targets: str = "last",
    before: Past | None = None,
    past: str = "auto",
) -> Asked:
    """The samples of another log that a model can be asked for.

    Args:
        log: any log.
        item_ids: the model's external item ids [V], entry 0 unused.
        targets: "last": each user's last row of a known item; "all": every such row.
        before: the log that the model learned from, if it is at hand.
        past: "run": what `before` has of a user is history, too (an event that is in both counts
            once, where both logs have times); "file": it is not; "auto": it is, unless the log
            itself begins where `before` begins, for most users of both.

    Raises:
        InputError: the model knows none of the items, no target has a history, "run" without
            `before`, or an unknown word.
    """
    for name, value, words in (("targets", targets, TARGETS), ("past", past, PASTS)):
        if value not in words:
            raise InputError(f"{name} is {value!r}, expected one of {', '.join(words)}")
    if past == "run" and before is None:
        raise InputError("past is 'run', but there is no log of the run to take it from")
    ours, kept = in_numbers_of(log, item_ids)
    if not ours.n_interactions:
        raise InputError(nothing_known(log, item_ids))
    last = log.offsets[1:][log.lengths > 0] - 1
    known = Known(
        rows=log.n_interactions,
        known_rows=ours.n_interactions,
        items=log.n_items,
        known_items=len(np.unique(ours.items)),
        users=log.n_users,
        unknown_last=int(np.count_nonzero(~kept[last])),
    )
    at = np.arange(ours.n_interactions)  # [M], the rows of the targets
    if targets == "last":
        at = ours.offsets[1:][ours.lengths > 0] - 1
    if before is not None:
        ours, at, known = _with_past(ours, at, known, before, past)
    who = np.searchsorted(ours.offsets, at, side="right") - 1
    ends = at - ours.offsets[who]
    good = ends > 0
    if not good.any():
        raise InputError(
            f"{log.source}: no target has a history: no user has two rows of items that the run "
            "knows, nor is one known from its log; give a log with what users had before"
        )
    samples = Samples(who[good].astype(np.int32), ends[good].astype(np.int32))
    return Asked(ours, samples, replace(known, no_history=int(np.count_nonzero(~good))))


def _with_past(
    log: InteractionLog, at: NDArray[np.int64], known: Known, before: Past, past: str
) -> tuple[InteractionLog, NDArray[np.int64], Known]:
    """The log with what was before it, if that is wanted, and where its targets stand then."""
    users = before.log.user_index.find(log.user_ids.tolist())
    some = int(np.count_nonzero(users >= 0))
    rows = _rows_of(before, log, users)
    equal = rows.stands[rows.of_past :]
    learned = None
    if rows.times is not None:
        learned = int(np.count_nonzero(rows.trained[equal[at][equal[at] < rows.of_past]]))
    if past == "auto":
        past = "run" if some and not _holds_past(rows) else "file"
    known = replace(known, known_users=some, learned=learned, past=past)
    if past == "run":
        log, place = _joined(rows, log)
        at = place[at]
    return log, at, known


def nothing_known(log: InteractionLog, item_ids: NDArray[Any]) -> str:
    """What to say of a log that holds no item of a catalogue."""

    def some(ids: NDArray[Any]) -> str:
        listed: Sequence[Any] = ids[1:4].tolist()
        return ", ".join(repr(value)[:40] for value in listed)

    return (
        f"{log.source}: none of its {log.n_items} items ({some(log.item_ids)}, ...) is one of "
        f"the {len(item_ids) - 1} that the run knows ({some(item_ids)}, ...): is it the same "
        "catalogue, are the ids written alike, and is the item column the right one (--item-col)?"
    )
