"""Splits: which samples each protocol gives, by hand on small logs and against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mclrec_fast.data import InteractionLog, Samples, split
from mclrec_fast.errors import InputError


def log_of(lengths: list[int], times: list[int] | None = None) -> InteractionLog:
    total = sum(lengths)
    return InteractionLog(
        items=np.arange(1, total + 1, dtype=np.int32),
        offsets=np.cumsum([0, *lengths]).astype(np.int64),
        times=None if times is None else np.array(times, dtype=np.int64),
        user_ids=np.arange(len(lengths)),
        item_ids=np.arange(total + 1),
        source="test.txt",
    )


def pairs(samples: Samples | None) -> list[tuple[int, int]]:
    assert samples is not None
    assert samples.users.dtype == samples.ends.dtype == np.int32
    return list(zip(samples.users.tolist(), samples.ends.tolist(), strict=True))


def test_leave_one_out_by_hand() -> None:
    parts = split(log_of([5, 2, 3, 4]))
    assert pairs(parts.train) == [(0, 1), (0, 2), (3, 1)]
    assert pairs(parts.valid) == [(0, 3), (2, 1), (3, 2)]
    assert pairs(parts.test) == [(0, 4), (2, 2), (3, 3)]
    assert parts.dropped_users == 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_leave_one_out_is_all_prefixes(lengths: list[int]) -> None:
    log = log_of(lengths)
    if max(lengths) < 4:
        with pytest.raises(InputError, match=r"test\.txt"):
            split(log)
        return
    parts = split(log)
    expected = [(u, t) for u, m in enumerate(lengths) for t in range(1, m - 2)]
    assert pairs(parts.train) == expected
    assert pairs(parts.test) == [(u, m - 1) for u, m in enumerate(lengths) if m >= 3]
    assert parts.dropped_users == sum(m < 3 for m in lengths)


def test_training_on_everything() -> None:
    parts = split(log_of([3, 1, 2]), "none")
    assert pairs(parts.train) == [(0, 1), (0, 2), (2, 1)]
    assert parts.valid is None and parts.test is None
    assert parts.dropped_users == 1


def test_temporal_cut_is_global_and_asks_each_user_once() -> None:
    # 10 interactions at times 0..9: validation starts at time 6, test at time 8.
    log = log_of([4, 4, 2], [0, 1, 6, 8, 2, 3, 4, 7, 5, 9])
    parts = split(log, "temporal", valid_fraction=0.2, test_fraction=0.2)
    assert (parts.valid_from, parts.test_from) == (6, 8)
    assert pairs(parts.train) == [(0, 1), (1, 1), (1, 2)]
    assert pairs(parts.valid) == [(0, 2), (1, 3)]
    assert pairs(parts.test) == [(0, 3), (2, 1)]
    assert parts.dropped_users == 0


def test_temporal_never_trains_on_the_future() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 50).tolist()
    times = np.concatenate([np.sort(rng.integers(0, 60, m)) for m in lengths])
    log = log_of(lengths, times.tolist())
    parts = split(log, "temporal")
    assert parts.valid is not None and parts.test is not None and log.times is not None
    assert parts.valid_from is not None and parts.test_from is not None

    def target_times(samples: Samples) -> np.ndarray:
        assert log.times is not None
        return log.times[log.offsets[samples.users] + samples.ends]

    assert target_times(parts.train).max() < parts.valid_from
    assert target_times(parts.valid).min() >= parts.valid_from
    assert target_times(parts.valid).max() < parts.test_from <= target_times(parts.test).min()
    for part in (parts.valid, parts.test):
        assert len(set(part.users.tolist())) == part.size
        assert part.ends.min() >= 1


@pytest.mark.parametrize(
    ("lengths", "holdout", "message"),
    [
        ([2, 1, 2], "leave-one-out", "fewer than 3"),
        ([3, 3], "leave-one-out", "nothing to train on"),
        ([1, 1], "none", "single interaction"),
        ([5, 5], "temporal", "needs times"),
        ([5, 5], "leave-two-out", "unknown holdout"),
    ],
)
def test_refusals(lengths: list[int], holdout: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(log_of(lengths), holdout)


def test_temporal_refusals() -> None:
    log = log_of([5, 5], [7] * 10)
    with pytest.raises(InputError, match="leaves nothing"):
        split(log, "temporal")
    with pytest.raises(InputError, match="between 0 and 1"):
        split(log, "temporal", test_fraction=0.0)
    with pytest.raises(InputError, match="nothing to train"):
        split(log, "temporal", valid_fraction=0.5, test_fraction=0.5)
