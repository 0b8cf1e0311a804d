"""Emulated CUDA `augment_views` and `gather_sequences` equal the reference to the bit.

This is emulation on a CPU, not a GPU.
"""

import pytest
import torch

from mclrec_fast.ops import PackedSequences, augment_views, gather_sequences

from ..ops.test_augment_views import RATIOS, Slices, random_lengths, slices
from .ops import SCHEDULES, emulated

SHAPES = {
    "one row of one item": [1],
    "one row": [9],
    "only rows of one item": [1] * 5,
    "two items": [2] * 40,
    "a warp of rows": [5] * 32,
    "one row more than a block of rows": random_lengths(11, 33),
    "lengths around a warp": [31, 32, 33, 63, 64, 65],
    "one long row among short ones": [3] * 7 + [200] + [2] * 7,
    "no rows": [],
}


def narrowed(packed: PackedSequences) -> PackedSequences:
    """Without unused capacity, which must be zero."""
    tokens = int(packed.offsets[-1])
    assert not packed.items[tokens:].any() and not packed.positions[tokens:].any()
    return PackedSequences(packed.items[:tokens], packed.positions[:tokens], packed.offsets)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference(monkeypatch: pytest.MonkeyPatch, shape: str, schedule: str) -> None:
    arguments = slices(SHAPES[shape])
    longest = max(SHAPES[shape], default=1)
    options = {"max_length": longest, "seed": 2**64 - 5, "batch": 3, **RATIOS}
    compare(monkeypatch, arguments, options, schedule)
    gathered = gather_sequences(*arguments, max_length=longest, backend="torch")
    with emulated(monkeypatch, schedule):
        native = gather_sequences(*arguments, max_length=longest, backend="native")
    assert all(torch.equal(a, b) for a, b in zip(narrowed(native), gathered, strict=True))


@pytest.mark.parametrize(
    ("crop", "mask", "reorder"), [(0.0, 0.0, 0.0), (0.999, 0.999, 1.0), (0.3, 0.7, 0.2)]
)
def test_every_ratio(
    monkeypatch: pytest.MonkeyPatch, crop: float, mask: float, reorder: float
) -> None:
    ratios = {"crop_ratio": crop, "mask_ratio": mask, "reorder_ratio": reorder}
    options = {"max_length": 40, "seed": 5, "batch": 2**32 - 1, **ratios}
    compare(monkeypatch, slices(random_lengths(60, 40)), options, "forward")


def test_ids_zero_in_the_log_count_as_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    items, starts, lengths = slices(random_lengths(60, 12))
    options = {"max_length": 12, "seed": 1, "batch": 1, **RATIOS}
    compare(monkeypatch, (items % 5, starts, lengths), options, "random")


def test_wrong_slices_stay_inside_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    items, starts, lengths = slices([4] * 6)
    starts[0], starts[1], lengths[2], lengths[3] = -7, 10**12, -3, 10**6
    with emulated(monkeypatch):
        packed = augment_views(
            items, starts, lengths, max_length=50, seed=1, batch=1, **RATIOS, backend="native"
        )
    assert int(packed.offsets[-1]) <= 18 * 50
    assert set(packed.items.unique().tolist()) <= {0, *items.tolist()}


def compare(
    monkeypatch: pytest.MonkeyPatch, arguments: Slices, options: dict[str, float], schedule: str
) -> None:
    expected = augment_views(*arguments, **options, backend="torch")  # type: ignore[arg-type]
    with emulated(monkeypatch, schedule):
        native = augment_views(*arguments, **options, backend="native")  # type: ignore[arg-type]
    for a, b in zip(narrowed(native), expected, strict=True):
        assert a.dtype == b.dtype == torch.int32
        assert torch.equal(a, b)
