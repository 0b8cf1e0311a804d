"""Which (history, target) pairs train, validate and test: two int32 numbers each, no prefixes.

Leave-one-out, one global cut in time, or everything for training. The log itself is not touched:
users too short for a protocol stay in it and are counted.
"""

from typing import NamedTuple

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


def _leave_one_out(log: InteractionLog) -> Split:
    lengths = log.lengths
    users = np.flatnonzero(lengths >= 3)
    if not len(users):
        raise InputError(
            f"{log.source}: all {log.n_users} users have fewer than 3 interactions, and "
            "leave-one-out needs 3 (--holdout none trains with 2)"
        )
    train = prefixes(lengths - 3)
    if not train.size:
        raise InputError(
            f"{log.source}: no user has more than 3 interactions, so that leave-one-out leaves "
            "nothing to train on (--holdout none trains on everything)"
        )
    kept = lengths[users]
    return Split(
        train=train,
        valid=_one_each(users, kept - 2),
        test=_one_each(users, kept - 1),
        dropped_users=log.n_users - len(users),
    )


def _everything(log: InteractionLog) -> Split:
    train = prefixes(log.lengths - 1)
    if not train.size:
        raise InputError(f"{log.source}: all {log.n_users} users have a single interaction")
    dropped = int(np.count_nonzero(log.lengths < 2))
    return Split(train, None, None, dropped, holdout="none")


def _first_at_or_after(log: InteractionLog, cut: float) -> NDArray[np.int64]:
    """For each user, how many interactions lie before a time, int64 [U]."""
    assert log.times is not None
    before = np.concatenate([[0], np.cumsum(log.times < cut)])
    counts: NDArray[np.int64] = before[log.offsets[1:]] - before[log.offsets[:-1]]
    return counts


def _temporal(log: InteractionLog, valid_fraction: float, test_fraction: float) -> Split:
    if log.times is None:
        raise InputError(
            f"{log.source}: --holdout temporal needs times, and there are none: name their column "
            "with --time-col, or take --holdout leave-one-out"
        )
    for name, value in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value}, expected a number between 0 and 1")
    if valid_fraction + test_fraction >= 1:
        raise InputError("valid_fraction and test_fraction leave nothing to train on")
    ordered = np.sort(log.times)
    at = [1 - valid_fraction - test_fraction, 1 - test_fraction]
    cuts = [ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in at]
    ends = [_first_at_or_after(log, cut) for cut in cuts]
    limits = [ends[1], log.lengths]
    parts = []
    for end, limit in zip(ends, limits, strict=True):
        users = np.flatnonzero((end >= 1) & (end < limit))
        parts.append(_one_each(users, end[users]))
    train = prefixes(ends[0] - 1)
    for name, part in (("train on", train), ("validate on", parts[0]), ("test on", parts[1])):
        if not part.size:
            raise InputError(
                f"{log.source}: the temporal split leaves nothing to {name} "
                f"(validation from {cuts[0]}, test from {cuts[1]}); try other fractions"
            )
    seen = np.zeros(log.n_users, dtype=np.bool_)
    for part in (train, *parts):
        seen[part.users] = True
    dropped = log.n_users - int(np.count_nonzero(seen))
    return Split(train, parts[0], parts[1], dropped, "temporal", float(cuts[0]), float(cuts[1]))


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
    if log.n_users >= 2**31 or int(log.lengths.max(initial=0)) >= 2**31:
        raise InputError(f"{log.source}: more users or longer histories than 32 bits can count")
    if holdout == "leave-one-out":
        return _leave_one_out(log)
    if holdout == "temporal":
        return _temporal(log, valid_fraction, test_fraction)
    if holdout == "none":
        return _everything(log)
    raise InputError(f"unknown holdout {holdout!r}, expected one of {', '.join(HOLDOUTS)}")


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
