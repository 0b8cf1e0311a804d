"""`augmenter`: representations and the six weights of a perceptron."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mclrec_fast.ops import augmenter

from .op_case import Bad, Call, OpCase, random, widths

# B and the four sizes
SHAPES = {
    "one row": (1, 5, 2, 1, 5),
    "all sizes 1": (3, 1, 1, 1, 1),
    **widths(lambda d: (13 if d < 16 else 20, d, d, d, d)),
    "the paper's": (256, 64, 32, 16, 64),
    "one block exactly": (128, 24, 12, 6, 24),
    "one row over a block": (129, 24, 12, 6, 24),
    "wide": (40, 130, 65, 33, 130),
    "plain": (18, 24, 12, 6, 24),
    "many rows": (1000, 64, 32, 16, 64),
}
SETTINGS = {"usual": {"size": 1.0}, "saturated": {"size": 30.0}}  # GELU far from 0
NAMES = ("weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3")


def make(shape: tuple[int, ...], settings: Mapping[str, Any], draw: int) -> Call:
    """Values before the GELU are about `size`."""
    rows, *sizes = shape
    generator = torch.Generator().manual_seed(draw)
    tensors = [random(generator, rows, sizes[0]) * settings["size"]]
    for into, out in pairwise(sizes):
        tensors.append(random(generator, out, into) / into**0.5)
        tensors.append(random(generator, out) * 0.3)
    named = dict(zip(("h", *NAMES), (x.float().double() for x in tensors), strict=True))
    return Call(named, logit=max(4.0, settings["size"]))


def call(h: Tensor, *, backend: str, **weights: Tensor) -> Tensor:
    return augmenter(h, list(weights.values()), backend=backend)


BAD = [
    Bad({"h": torch.zeros(0, 24).double()}, ValueError, "h must not be empty"),
    Bad({"h": torch.zeros(4, 23).double()}, ValueError, "weight_1 must have shape"),
    *(
        Bad({name: torch.zeros([n + 1 for n in x.shape]).double()}, ValueError, "must have shape")
        for name, x in make(SHAPES["plain"], SETTINGS["usual"], 0).tensors.items()
    ),
    Bad({"another": torch.zeros(3).double()}, ValueError, "weights must be 6, got 7"),
]

AUGMENTER = OpCase(
    name="augmenter",
    function=call,
    make=make,
    shapes=SHAPES,
    settings=SETTINGS,
    bad=BAD,
    properties=[("plain", "usual"), ("one row over a block", "usual")],
    threads=[("many rows", "usual"), ("width 9", "saturated")],
    emulated=[],
    tiny=(3, 4, 3, 2, 4),
    on_gpu=False,
)
