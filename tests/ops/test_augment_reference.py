"""The augmentation reference against the words of the method: properties, edges, fairness."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mclrec_fast.ops import PackedSequences
from mclrec_fast.ops.torch.augment_views import augment_views, gather_sequences

LOG = torch.arange(1, 401, dtype=torch.int32)


def views_of(
    lengths: list[int], *, seed: int = 1, batch: int = 0, **ratios: float
) -> list[list[list[tuple[int, int]]]]:
    """(item, position) pairs: [original, first, second][row]."""
    settings = {"crop_ratio": 0.5, "mask_ratio": 0.5, "reorder_ratio": 0.8} | ratios
    n = torch.tensor(lengths, dtype=torch.int32)
    packed = augment_views(
        LOG,
        torch.arange(len(lengths)) * 3,
        n,
        max_length=50,
        seed=seed,
        batch=batch,
        **settings,
    )
    rows = unpack(packed)
    return [rows[i * len(lengths) : (i + 1) * len(lengths)] for i in range(3)]


def unpack(packed: PackedSequences) -> list[list[tuple[int, int]]]:
    pairs = list(zip(packed.items.tolist(), packed.positions.tolist(), strict=True))
    bounds = packed.offsets.tolist()
    return [pairs[a:b] for a, b in pairwise(bounds)]


def operator_of(original: list[tuple[int, int]], view: list[tuple[int, int]]) -> str:
    """Which operator made the view, read off the view itself."""
    items, seen = [i for i, _ in original], [i for i, _ in view]
    if sorted(seen) == sorted(items) and len(view) == len(original):
        return "reorder"
    if all(i == 0 or items[p] == i for i, p in view) and view[-1][1] == len(items) - 1:
        return "mask"
    return "crop"


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(2, 50), min_size=1, max_size=12),
    seed=st.integers(0, 2**63 - 1),
    batch=st.integers(0, 2**32 - 1),
)
def test_views_are_what_the_operators_say(lengths: list[int], seed: int, batch: int) -> None:
    originals, *views = views_of(lengths, seed=seed, batch=batch)
    for row, n in enumerate(lengths):
        original = originals[row]
        assert original == [(3 * row + j + 1, j) for j in range(n)]
        items = [i for i, _ in original]
        for view in views:
            seen, places = [i for i, _ in view[row]], [p for _, p in view[row]]
            match operator_of(original, view[row]):
                case "crop":
                    kept = max(1, int(np.float32(n) * np.float32(0.5)))
                    start = items.index(seen[0])
                    assert seen == items[start : start + kept]
                    assert places == list(range(kept))
                case "mask":
                    hidden = int(np.float32(n) * np.float32(0.5))
                    last_hidden = seen[-1] == 0
                    assert 0 not in seen[:-1]
                    assert n - len(seen) + last_hidden == hidden
                case "reorder":
                    assert places == list(range(n))
                    moved = [j for j in range(n) if seen[j] != items[j]]
                    if moved:
                        assert moved[-1] - moved[0] < int(np.float32(n) * np.float32(0.8))


def test_single_items_are_not_augmented() -> None:
    originals, first, second = views_of([1] * 40)
    assert originals == first == second


def test_the_two_operators_differ_and_all_pairs_are_drawn() -> None:
    """Six ordered pairs of different operators, uniformly (chi-square at 5 degrees, 1e-4)."""
    counts: dict[tuple[str, str], int] = {}
    for batch in range(10):
        originals, first, second = views_of([40] * 100, batch=batch)
        for row in range(100):
            pair = tuple(operator_of(originals[row], view[row]) for view in (first, second))
            counts[pair] = counts.get(pair, 0) + 1  # type: ignore[index]
    assert len(counts) == 6
    assert all(a != b for a, b in counts)
    assert sum((c - 1000 / 6) ** 2 / (1000 / 6) for c in counts.values()) < 25.7


def test_crop_starts_are_uniform() -> None:
    """Keeping 5 of 10 items: starts 0..5 equally often (chi-square at 5 degrees, 1e-4)."""
    counts = [0] * 6
    for batch in range(30):
        originals, first, second = views_of([10] * 100, batch=batch)
        for row in range(100):
            for view in (first, second):
                if operator_of(originals[row], view[row]) == "crop":
                    counts[view[row][0][0] - originals[row][0][0]] += 1
    expected = sum(counts) / 6
    assert sum((c - expected) ** 2 / expected for c in counts) < 25.7


def test_masked_positions_are_uniform() -> None:
    counts, total = [0] * 6, 0
    for batch in range(30):
        originals, first, second = views_of([6] * 100, batch=batch)
        for row in range(100):
            for view in (first, second):
                if operator_of(originals[row], view[row]) == "mask":
                    visible = {p for i, p in view[row] if i != 0}
                    total += 1
                    for j in range(6):
                        counts[j] += j not in visible
    assert sum((c - total / 2) ** 2 / (total / 4) for c in counts) < 6 * 5


def test_ratios_use_float32() -> None:
    """30 items at crop ratio 0.9: 3 in float32, 2.9999999999999996 in float64."""
    originals, *views = views_of([30] * 60, crop_ratio=0.9)
    kept = [
        len(view[row])
        for view in views
        for row in range(60)
        if operator_of(originals[row], view[row]) == "crop"
    ]
    assert kept
    assert set(kept) == {int(np.float32(30) * np.float32(1.0 - 0.9))}


@pytest.mark.parametrize("lengths", ([5], [1, 50, 3]))
def test_gather_sequences(lengths: list[int]) -> None:
    starts = torch.arange(len(lengths)) * 7
    n = torch.tensor(lengths, dtype=torch.int32)
    rows = unpack(gather_sequences(LOG, starts, n, max_length=50))
    assert rows == [[(7 * r + j + 1, j) for j in range(k)] for r, k in enumerate(lengths)]
