"""Which (history, target) pairs train, validate and test: two int32 numbers each, no prefixes.

Leave-one-out, one global cut in time, or everything for training. The log itself is not touched:
users too short for a protocol stay in it and are counted.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .log import InteractionLog

HOLDOUTS = ("leave-one-out", "temporal", "none")


class Samples(NamedTuple):
    """M samples: history = the user's items before position `end`, target = the item at `end`.

    Histories are cut to their last L items by whoever gathers them.
    """

    users: NDArray[np.int32]  # [M]
    ends: NDArray[np.int32]  # [M]

    @property
    def size(self) -> int:
        """M."""
        return len(self.users)


class Split(NamedTuple):
    """Samples to train on, to validate and to test; `dropped_users` give no sample at all."""

    train: Samples
    valid: Samples | None
    test: Samples | None
    dropped_users: int
    holdout: str = "leave-one-out"
    valid_from: float | None = None  # temporal: validation starts at this time
    test_from: float | None = None  # temporal: test starts at this time


def prefixes(lasts: NDArray[np.int64]) -> Samples:
    """All samples (user, end) with 1 <= end <= lasts[user], users in order, ends ascending."""
    counts = np.maximum(lasts, 0)
    users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    # Ones, and at each user's first sample the step back from the previous user's last.
    ends = np.ones(len(users), dtype=np.int32)
    some = counts[counts > 0]
    ends[np.cumsum(some)[:-1]] = 1 - some[:-1]
    return Samples(users, np.cumsum(ends, dtype=np.int32))


def _one_each(users: NDArray[np.int64], ends: NDArray[np.int64]) -> Samples:
    return Samples(users.astype(np.int32), ends.astype(np.int32))


class Cuts(NamedTuple):
    """Times at which validation and test start, as the log's times are."""

    valid: Any
    test: Any


def _leave_one_out(log: InteractionLog) -> Split:
    lengths = log.lengths
    users = np.flatnonzero(lengths >= 3)
    kept = lengths[users]
    return Split(
        train=prefixes(lengths - 3),
        valid=_one_each(users, kept - 2),
        test=_one_each(users, kept - 1),
        dropped_users=log.n_users - len(users),
    )


def _everything(log: InteractionLog) -> Split:
    dropped = int(np.count_nonzero(log.lengths < 2))
    return Split(prefixes(log.lengths - 1), None, None, dropped, holdout="none")


def _first_at_or_after(log: InteractionLog, cut: Any) -> NDArray[np.int64]:
    """For each user, how many interactions lie before a time, int64 [U]."""
    assert log.times is not None
    before = np.concatenate([[0], np.cumsum(log.times < cut)])
    counts: NDArray[np.int64] = before[log.offsets[1:]] - before[log.offsets[:-1]]
    return counts


def cut_places(
    source: str, rows: int, timed: bool, valid_fraction: float, test_fraction: float
) -> tuple[int, int]:
    """Which rows, in order of time, `Cuts` are the times of.

    Raises:
        InputError: there are no times, or the fractions are none.
    """
    if not timed:
        raise InputError(
            f"{source}: --holdout temporal needs times, and there are none: name their column "
            "with --time-col, or take --holdout leave-one-out"
        )
    for name, value in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value}, expected a number between 0 and 1")
    if valid_fraction + test_fraction >= 1:
        raise InputError("valid_fraction and test_fraction leave nothing to train on")
    first, second = (
        min(int(rows * share), rows - 1)
        for share in (1 - valid_fraction - test_fraction, 1 - test_fraction)
    )
    return first, second


def _temporal(log: InteractionLog, cuts: Cuts) -> Split:
    ends = [_first_at_or_after(log, cut) for cut in cuts]
    limits = [ends[1], log.lengths]
    parts = []
    for end, limit in zip(ends, limits, strict=True):
        users = np.flatnonzero((end >= 1) & (end < limit))
        parts.append(_one_each(users, end[users]))
    train = prefixes(ends[0] - 1)
    seen = np.zeros(log.n_users, dtype=np.bool_)
    for part in (train, *parts):
        seen[part.users] = True
    dropped = log.n_users - int(np.count_nonzero(seen))
    times = float(cuts.valid), float(cuts.test)
    return Split(train, parts[0], parts[1], dropped, "temporal", *times)


def samples_of(log: InteractionLog, holdout: str, cuts: Cuts | None) -> Split:
    """The samples of a log, or of some of its users; there may be none.

    Args:
        log: the interactions.
        holdout: see `split`.
        cuts: of the whole log's times; temporal only.
    """
    if holdout == "leave-one-out":
        return _leave_one_out(log)
    if holdout == "temporal":
        assert cuts is not None
        return _temporal(log, cuts)
    if holdout == "none":
        return _everything(log)
    raise InputError(f"unknown holdout {holdout!r}, expected one of {', '.join(HOLDOUTS)}")


def require_samples(found: Split, source: str, n_users: int) -> None:
    """Refuses a split without samples.

    Raises:
        InputError: it says of what.
    """
    if found.holdout == "none" and not found.train.size:
        raise InputError(f"{source}: all {n_users} users have a single interaction")
    if found.valid is None or found.test is None:
        return
    if found.holdout == "leave-one-out":
        if not found.valid.size:
            raise InputError(
                f"{source}: all {n_users} users have fewer than 3 interactions, and "
                "leave-one-out needs 3 (--holdout none trains with 2)"
            )
        if not found.train.size:
            raise InputError(
                f"{source}: no user has more than 3 interactions, so that leave-one-out leaves "
                "nothing to train on (--holdout none trains on everything)"
            )
    for name, part in (
        ("train on", found.train),
        ("validate on", found.valid),
        ("test on", found.test),
    ):
        if not part.size:
            raise InputError(
                f"{source}: the temporal split leaves nothing to {name} "
                f"(validation from {found.valid_from}, test from {found.test_from}); "
                "try other fractions"
            )


def require_countable(source: str, n_users: int, longest: int) -> None:
    """Refuses what samples cannot count.

    Raises:
        InputError: more users or longer histories than int32 holds.
    """
    if n_users >= 2**31 or longest >= 2**31:
        raise InputError(f"{source}: more users or longer histories than 32 bits can count")


def split(
    log: InteractionLog,
    holdout: str = "leave-one-out",
    *,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Split:
    """Enumerate the samples of a protocol.

    Args:
        log: the interactions.
        holdout: "leave-one-out": a user's last item tests, the one before it validates, all
            earlier prefixes train (users with fewer than 3 items are dropped, with 3 only
            evaluated). "temporal": the last `test_fraction` of all interactions in time is the
            test period, `valid_fraction` before it the validation period; training ends where
            validation starts; a user with a history is asked for the first item of each period.
            "none": all prefixes train.
        valid_fraction: temporal only, share of the interactions.
        test_fraction: temporal only, share of the interactions.

    Raises:
        InputError: no times, or nothing left to train or evaluate on.
    """
    require_countable(log.source, log.n_users, int(log.lengths.max(initial=0)))
    cuts = None
    if holdout == "temporal":
        timed = log.times is not None
        places = cut_places(log.source, log.n_interactions, timed, valid_fraction, test_fraction)
        assert log.times is not None
        ordered = np.sort(log.times)
        cuts = Cuts(*(ordered[place] for place in places))
    found = samples_of(log, holdout, cuts)
    require_samples(found, log.source, log.n_users)
    return found


def training_counts(log: InteractionLog, train: Samples) -> NDArray[np.float32]:
    """How often training sees each item, float32 [V]: the scores of the popularity floor.

    A user's training part ends with the target of the last training sample; users without one do
    not count.
    """
    seen = np.zeros(log.n_users, np.int64)  # [U], items of each user that training sees
    np.maximum.at(seen, train.users, train.ends.astype(np.int64) + 1)
    position = np.arange(len(log.items)) - np.repeat(log.offsets[:-1], np.diff(log.offsets))
    in_training = position < np.repeat(seen, np.diff(log.offsets))  # [I]
    counts = np.bincount(log.items[in_training], minlength=log.n_classes)
    return counts.astype(np.float32)
