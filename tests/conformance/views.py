"""`augment_views` and `gather_sequences`: slices of a log. Integers, equal to the bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mclrec_fast.ops import PackedSequences, augment_views, gather_sequences

from .op_case import Bad, Call, OpCase

RATIOS = {"crop_ratio": 0.5, "mask_ratio": 0.5, "reorder_ratio": 0.8}


def random_lengths(count: int, longest: int, seed: int = 1) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, longest + 1, (count,), generator=generator).tolist()


SHAPES = {
    "one row of one item": [1],
    "one row": [9],
    "only rows of one item": [1] * 5,
    "two items": [2] * 40,
    "all lengths equal": [7] * 130,
    "mixed": random_lengths(257, 50),
    "one long row among short ones": [3] * 70 + [900] + [2] * 70,
    "long rows": random_lengths(12, 1000),
    "block of rows exactly full": random_lengths(128, 20),
    "a warp of rows": [5] * 32,
    "one row more than a block of rows": random_lengths(11, 33),
    "lengths around a warp": [31, 32, 33, 63, 64, 65],
    "a longer row among short ones": [3] * 7 + [200] + [2] * 7,
    "no rows": [],
    "plain": random_lengths(60, 12),
}
# Ids 0 in the log count as masked items; others are only copied.
ODD_ITEMS = torch.tensor([0, -1, -(2**31), 2**31 - 1, 7], dtype=torch.int32)
SETTINGS: dict[str, dict[str, Any]] = {
    "usual": {**RATIOS, "seed": 11, "batch": 0},
    "odd items": {**RATIOS, "seed": 1, "batch": 1, "odd": True},
    **{
        f"ratios {crop}, {mask}, {reorder}": {
            "crop_ratio": crop,
            "mask_ratio": mask,
            "reorder_ratio": reorder,
            "seed": 5,
            "batch": 9,
        }
        for crop in (0.0, 0.3, 0.999)
        for mask in (0.0, 0.7, 0.999)
        for reorder in (0.0, 0.2, 1.0)
    },
    **{
        f"seed {seed}, batch {batch}": {**RATIOS, "seed": seed, "batch": batch}
        for seed in (0, -1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
        for batch in (2**31, 2**32 - 1)
    },
}


def slices(lengths: list[int], *, log: int = 2000, seed: int = 0) -> dict[str, Tensor]:
    """A log of random items and slices of these lengths: items [I], starts [S], lengths [S]."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, 500, (log,), generator=generator, dtype=torch.int32)
    starts = [int(torch.randint(0, log - n + 1, (1,), generator=generator)) for n in lengths]
    return {
        "items": items,
        "starts": torch.tensor(starts, dtype=torch.int64),
        "lengths": torch.tensor(lengths, dtype=torch.int32),
    }


def make(shape: list[int], settings: Mapping[str, Any], draw: int) -> Call:
    tensors, settings = slices(shape, seed=draw), dict(settings)
    if settings.pop("odd", False):
        tensors["items"] = ODD_ITEMS[tensors["items"] % 5]
    return Call(tensors, {"max_length": max(shape, default=1), **settings})


def without_spare(packed: PackedSequences) -> PackedSequences:
    """The batch without unused capacity, which a GPU leaves behind the tokens and must be zero."""
    tokens = int(packed.offsets[-1])
    assert not packed.items[tokens:].any() and not packed.positions[tokens:].any()
    return PackedSequences(packed.items[:tokens], packed.positions[:tokens], packed.offsets)


def changed(name: str, **places: int) -> dict[str, Tensor]:
    """A tensor of the good call with other entries, given as i0=..., i1=..."""
    tensor = slices(SHAPES["plain"])[name].clone()
    for place, value in places.items():
        tensor[int(place[1:])] = value
    return {name: tensor}


BAD_SLICES = [
    Bad(changed("lengths", i1=0), ValueError, r"lengths\[1\] must be in 1..12, got 0", True),
    Bad(changed("lengths", i0=13), ValueError, r"lengths\[0\] must be in 1..12, got 13", True),
    *(
        Bad(changed("starts", i1=start), ValueError, rf"sequence 1 \(start {start}, .* 2000", True)
        for start in (-1, 2000, 2**62)
    ),
    Bad({"starts": torch.zeros(3).long()}, ValueError, "starts and lengths must have one size"),
    Bad({"max_length": 0}, ValueError, "max_length must be at least 1, got 0"),
]
BAD_OPTIONS = [
    Bad({"crop_ratio": 1.0}, ValueError, r"crop_ratio must be in \[0, 1\), got 1.0"),
    Bad({"mask_ratio": -0.1}, ValueError, r"mask_ratio must be in \[0, 1\), got -0.1"),
    Bad({"reorder_ratio": 1.1}, ValueError, r"reorder_ratio must be in \[0, 1\], got 1.1"),
    Bad({"reorder_ratio": float("nan")}, ValueError, "reorder_ratio must be"),
    Bad({"seed": 2**64}, ValueError, "seed must be a 64-bit integer"),
    *(Bad({"batch": batch}, ValueError, "batch must be in 0..2") for batch in (-1, 2**32)),
]
COMMON: dict[str, Any] = {
    "shapes": SHAPES,
    "properties": [("plain", "usual")],
    "threads": [(name, "usual") for name in ("mixed", "long rows", "all lengths equal")],
    "emulated": [name for name, lengths in SHAPES.items() if sum(lengths) < 500],
    "differentiable": False,
    "exact": True,
    "everywhere": ("usual", "odd items"),
}
AUGMENT_VIEWS = OpCase(
    name="augment_views",
    function=lambda **arguments: without_spare(augment_views(**arguments)),
    make=make,
    settings=SETTINGS,
    bad=[*BAD_SLICES, *BAD_OPTIONS],
    **COMMON,
)
GATHER_SEQUENCES = OpCase(
    name="gather_sequences",
    function=lambda **arguments: without_spare(gather_sequences(**arguments)),
    make=make,
    settings={"usual": {}, "odd items": {"odd": True}},
    bad=BAD_SLICES,
    **COMMON,
)
