"""augment_views and gather_sequences against the words of the method: operators, fairness, edges.

That every backend draws the same bits is in tests/conformance.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mclrec_fast.ops import PackedSequences, augment_views, gather_sequences

from ..conformance.views import RATIOS, SHAPES, slices

Row = list[tuple[int, int]]  # (item, position) of each token
LOG = torch.arange(1, 401, dtype=torch.int32)


def rows_of(packed: PackedSequences) -> list[Row]:
    pairs = list(zip(packed.items.tolist(), packed.positions.tolist(), strict=True))
    return [pairs[a:b] for a, b in pairwise(packed.offsets.tolist())]


def views_of(
    lengths: list[int], backend: str = "torch", *, seed: int = 1, batch: int = 0, **ratios: float
) -> tuple[list[Row], list[Row], list[Row]]:
    """The histories (row r begins with item 3r + 1), their first and their second views."""
    packed = augment_views(
        LOG,
        torch.arange(len(lengths)) * 3,
        torch.tensor(lengths, dtype=torch.int32),
        max_length=50,
        seed=seed,
        batch=batch,
        backend=backend,
        **RATIOS | ratios,
    )
    rows, n = rows_of(packed), len(lengths)
    return rows[:n], rows[n : 2 * n], rows[2 * n :]


def operator_of(original: Row, view: Row) -> str:
    """Which operator made the view, read off the view itself."""
    items, seen = [i for i, _ in original], [i for i, _ in view]
    if sorted(seen) == sorted(items) and len(view) == len(original):
        return "reorder"
    if all(i == 0 or items[p] == i for i, p in view) and view[-1][1] == len(items) - 1:
        return "mask"
    return "crop"


def share(n: int, ratio: float) -> int:
    """In float32, as the method's authors count."""
    return int(np.float32(n) * np.float32(ratio))


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lengths=st.lists(st.integers(2, 50), min_size=1, max_size=12),
    seed=st.integers(0, 2**64 - 1),
    batch=st.integers(0, 2**32 - 1),
)
def test_views_are_what_the_operators_say(
    backend: str, lengths: list[int], seed: int, batch: int
) -> None:
    originals, *views = views_of(lengths, backend, seed=seed, batch=batch)
    for row, n in enumerate(lengths):
        assert originals[row] == [(3 * row + j + 1, j) for j in range(n)]
        items = [i for i, _ in originals[row]]
        for view in views:
            seen, places = [i for i, _ in view[row]], [p for _, p in view[row]]
            match operator_of(originals[row], view[row]):
                case "crop":
                    kept = max(1, share(n, 0.5))
                    start = items.index(seen[0])
                    assert seen == items[start : start + kept]
                    assert places == list(range(kept))
                case "mask":
                    assert 0 not in seen[:-1]
                    assert places == sorted(set(places))
                    assert n - len(seen) + (seen[-1] == 0) == share(n, 0.5)
                case "reorder":
                    assert places == list(range(n))
                    moved = [j for j in range(n) if seen[j] != items[j]]
                    if moved:
                        assert moved[-1] - moved[0] < share(n, 0.8)


def test_single_items_are_not_augmented(backend: str) -> None:
    originals, first, second = views_of([1] * 40, backend)
    assert originals == first == second


def test_the_two_operators_differ_and_all_pairs_are_drawn(backend: str) -> None:
    """Six ordered pairs of different operators, uniformly (chi-square at 5 degrees, 1e-4)."""
    counts: dict[tuple[str, ...], int] = {}
    for batch in range(10):
        originals, first, second = views_of([40] * 100, backend, batch=batch)
        for original, *both in zip(originals, first, second, strict=True):
            pair = tuple(operator_of(original, view) for view in both)
            counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 6
    assert all(a != b for a, b in counts)
    assert sum((c - 1000 / 6) ** 2 / (1000 / 6) for c in counts.values()) < 25.7


def test_crop_starts_and_masked_positions_are_uniform() -> None:
    """Keeping 5 of 10 items: starts 0..5 equally often (chi-square at 5 degrees, 1e-4)."""
    starts, masked, masks = [0] * 6, [0] * 6, 0
    for batch in range(30):
        originals, *views = views_of([10] * 100 + [6] * 20, batch=batch)
        for view in views:
            for original, row in zip(originals, view, strict=True):
                operator = operator_of(original, row)
                if operator == "crop" and len(original) == 10:
                    starts[row[0][0] - original[0][0]] += 1
                if operator == "mask" and len(original) == 6:
                    visible = {p for i, p in row if i != 0}
                    masks += 1
                    for j in range(6):
                        masked[j] += j not in visible
    expected = sum(starts) / 6
    assert sum((c - expected) ** 2 / expected for c in starts) < 25.7
    assert sum((c - masks / 2) ** 2 / (masks / 4) for c in masked) < 6 * 5


def test_ratios_use_float32(backend: str) -> None:
    """30 items at crop ratio 0.9: 3 in float32, 2.9999999999999996 in float64."""
    originals, *views = views_of([30] * 60, backend, crop_ratio=0.9)
    kept = {
        len(row)
        for view in views
        for original, row in zip(originals, view, strict=True)
        if operator_of(original, row) == "crop"
    }
    assert kept == {share(30, 1.0 - 0.9)}


@pytest.mark.parametrize("lengths", ([5], [1, 50, 3]))
def test_gather_sequences(lengths: list[int], backend: str) -> None:
    starts = torch.arange(len(lengths)) * 7
    n = torch.tensor(lengths, dtype=torch.int32)
    rows = rows_of(gather_sequences(LOG, starts, n, max_length=50, backend=backend))
    assert rows == [[(7 * r + j + 1, j) for j in range(k)] for r, k in enumerate(lengths)]


@pytest.mark.parametrize("longest", (2**31, 2**62))
def test_no_memory_is_taken_for_a_longest_history_that_is_not_there(
    longest: int, backend: str
) -> None:
    for lengths in ([], [5, 50, 3]):
        starts, n = torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int32)
        found = gather_sequences(LOG, starts, n, max_length=longest, backend=backend)
        expected = gather_sequences(LOG, starts, n, max_length=50, backend=backend)
        assert all(x.equal(y) for x, y in zip(found, expected, strict=True))


@pytest.mark.usefixtures("kernel")
def test_capacity_behind_the_last_token_is_zero() -> None:
    tensors, rows = slices(SHAPES["mixed"]).values(), len(SHAPES["mixed"])
    items, positions, offsets = torch.ops.mclrec_fast.augment_views(
        *tensors, 50, 0.5, 0.5, 0.8, 3, 4
    )
    assert len(items) == len(positions) == 3 * rows * 50
    used = int(offsets[-1])
    assert used < len(items)
    assert not items[used:].any() and not positions[used:].any()
