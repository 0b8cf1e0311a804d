"""`item_cross_entropy`: rows, a catalogue of items, and the class of each row."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from mclrec_fast.ops import item_cross_entropy

from .accuracy import largest
from .op_case import Bad, Call, OpCase, random, widths


class Shape(NamedTuple):
    rows: int
    items: int
    width: int


SHAPES = {
    "one row": Shape(1, 100, 64),
    "two rows": Shape(2, 50, 16),
    "three rows": Shape(3, 50, 16),
    "one class": Shape(5, 1, 8),
    "one row of one class": Shape(1, 1, 1),
    "two classes": Shape(5, 2, 8),
    **widths(lambda d: Shape(9 if d < 60 else 33, 60 if d < 60 else 70, d)),
    "one tile exactly": Shape(16, 72, 64),
    "one item over a tile": Shape(17, 73, 64),
    "tiles of 64 exactly": Shape(64, 128, 64),
    "one more than tiles of 64": Shape(65, 129, 64),
    "width 12": Shape(5, 70, 12),
    "width 150": Shape(3, 66, 150),
    "parts of several tiles": Shape(8, 64 * 10 + 1, 4),
    "several rows a chunk": Shape(255, 120, 32),
    "two chunks of rows": Shape(257, 120, 32),
    "many tiles a block": Shape(20, 72 * 70 + 5, 16),
    "wide": Shape(31, 100, 200),
    "thread shapes": Shape(257, 700, 40),
    "more thread shapes": Shape(64, 2500, 16),
}
SETTINGS = {"logits of 1": {"size": 1.0}, "of 64": {"size": 64.0}, "of 10000": {"size": 1e4}}


def make(shape: Shape, settings: Mapping[str, Any], draw: int) -> Call:
    generator = torch.Generator().manual_seed(draw)
    h = random(generator, shape.rows, shape.width) * settings["size"]
    items = random(generator, shape.items, shape.width) / shape.width**0.5
    h, items = h.float().double(), items.float().double()  # both precisions see one problem
    targets = torch.randint(0, shape.items, (shape.rows,), generator=generator)
    tensors = {"h": h, "item_embedding": items, "targets": targets}
    return Call(tensors, logit=largest(h @ items.T))


def targets(bad: int) -> torch.Tensor:
    return torch.tensor([0, 1, bad])


BAD = [
    Bad({"h": torch.zeros(3, 15).double()}, ValueError, r"h \[B, D\] and item_embedding"),
    Bad({"h": torch.zeros(0, 16).double()}, ValueError, "share D, none of them 0"),
    Bad({"item_embedding": torch.zeros(9, 17).double()}, ValueError, "item_embedding .*share D"),
    Bad({"item_embedding": torch.zeros(0, 16).double()}, ValueError, "share D, none of them 0"),
    Bad({"targets": torch.tensor([0, 1])}, ValueError, "3 rows of h but 2 targets"),
    *(
        Bad({"targets": targets(value)}, ValueError, r"targets\[2\] is", of_values=True)
        for value in (-1, -100, 50, 2**40)
    ),
]

ITEM_CROSS_ENTROPY = OpCase(
    name="item_cross_entropy",
    function=item_cross_entropy,
    make=make,
    shapes=SHAPES,
    settings=SETTINGS,
    bad=BAD,
    properties=[("three rows", "logits of 1"), ("one item over a tile", "of 64")],
    threads=[("thread shapes", "of 64"), ("more thread shapes", "of 64"), ("width 7", "of 64")],
    emulated=[
        *("one row", "one class", "two classes", "tiles of 64 exactly", "width 12", "width 150"),
        *("one more than tiles of 64", "parts of several tiles", "one row of one class"),
        *(f"width {d}" for d in (1, 7, 8, 9, 15, 17, 33, 65)),
    ],
    tiny=Shape(5, 11, 3),
    tolerance=lambda call: 1e-14 * (10 + call.logit),
)
