"""The generated log: Beauty's shape, determinism, and a structure that popularity cannot see."""

import time
from collections import Counter, defaultdict

import numpy as np
import pytest

from mclrec_fast.data import Dataset, SyntheticConfig, generate
from mclrec_fast.errors import InputError


def test_has_the_shape_of_beauty_and_is_fast() -> None:
    start = time.perf_counter()
    data = Dataset.named("synthetic")
    assert time.perf_counter() - start < 10
    card = data.card
    assert (card.users, card.items) == (22_000, 12_000)
    assert (card.length_min, card.length_median, card.length_p90, card.length_p99) == (5, 6, 14, 43)
    assert 8 < card.length_mean < 10
    popularity = np.sort(np.bincount(data.log.items)[1:])[::-1]
    # A power law: the top per cent of the items has far more than a per cent of the interactions.
    assert 0.08 < popularity[:120].sum() / popularity.sum() < 0.4


def test_same_seed_same_log_other_seed_other_log() -> None:
    small = SyntheticConfig(users=300, items=100, seed=3)
    first, again = generate(small), generate(small)
    assert first.sha256 == again.sha256
    assert np.array_equal(first.items, again.items)
    assert generate(SyntheticConfig(users=300, items=100, seed=4)).sha256 != first.sha256


def test_log_is_well_formed() -> None:
    log = generate(SyntheticConfig(users=500, items=200))
    assert log.items.min() == 1 and log.items.max() == log.n_items == 200
    assert log.times is not None
    for user in range(log.n_users):
        times = log.times[log.offsets[user] : log.offsets[user + 1]]
        assert (np.diff(times) >= 0).all()
    # Numbered by first appearance.
    _, first = np.unique(log.items, return_index=True)
    assert (np.diff(first) > 0).all()


def test_a_learner_beats_popularity() -> None:
    data = Dataset.named("synthetic", synthetic_users=4000, synthetic_items=1000)
    log, train, test = data.log, data.split.train, data.split.test
    assert test is not None
    at = log.offsets[train.users] + train.ends
    popular = set(np.argsort(-np.bincount(log.items[at]))[:10].tolist())
    after: dict[int, Counter[int]] = defaultdict(Counter)
    for previous, following in zip(log.items[at - 1], log.items[at], strict=True):
        after[int(previous)][int(following)] += 1
    at = log.offsets[test.users] + test.ends
    hits = np.array(
        [
            (t in popular, t in [item for item, _ in after[int(p)].most_common(10)])
            for p, t in zip(log.items[at - 1], log.items[at].tolist(), strict=True)
        ]
    )
    by_popularity, by_successors = hits.mean(axis=0)
    assert by_successors > 3 * by_popularity


@pytest.mark.parametrize("size", [{"users": 0}, {"items": 7}, {"seed": -1}])
def test_refuses_impossible_sizes(size: dict[str, int]) -> None:
    with pytest.raises(InputError, match="synthetic_"):
        generate(SyntheticConfig(**size))


def test_tiny_sizes_work() -> None:
    log = generate(SyntheticConfig(users=1, items=8))
    assert log.n_users == 1 and log.n_interactions >= 5
