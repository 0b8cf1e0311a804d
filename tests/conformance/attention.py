"""`packed_attention`: queries, keys and values of packed sequences."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mclrec_fast.ops import packed_attention

from .op_case import Bad, Call, OpCase, random, widths

MIXED = [3, 1, 5, 50, 2, 8, 8, 9, 7, 17, 33, 1, 4, 16, 32, 31, 64, 65]
SHORT = [3, 1, 5, 2, 32, 33, 40, 1]


class Shape(NamedTuple):
    lengths: list[int]
    heads: int = 2
    size: int = 32
    hidden_keys: float | None = None  # share of tokens that are no keys
    spare: int = 0


SHAPES = {
    "one token": Shape([1]),
    "one row": Shape([9]),
    "mixed": Shape(MIXED),
    "hidden keys": Shape(MIXED, hidden_keys=0.3),
    "no keys at all": Shape(MIXED, hidden_keys=1.1),
    "empty sequences": Shape([0, 3, 0, 0, 5, 0]),
    "only empty sequences": Shape([0, 0]),
    "no sequences": Shape([]),
    "spare capacity": Shape(MIXED, spare=13),
    "nothing but spare capacity": Shape([], spare=4),
    "lengths all equal": Shape([7] * 60),
    "only single tokens": Shape([1] * 100),
    "one long row": Shape([200]),
    "a very long row": Shape([700], 1, 8),
    "four heads of 16": Shape(MIXED, 4, 16),
    "three heads of 1": Shape(MIXED, 3, 1),
    **widths(lambda d: Shape(MIXED[:12] if d < 60 else SHORT, 2 if d == 9 else 1, d)),
    "heads of 24": Shape(MIXED, 1, 24),
    "heads of 72": Shape(MIXED, 1, 72),
    "the widest heads of a GPU": Shape([3, 5], 1, 256),
    "short": Shape(SHORT),
    "short, hidden keys": Shape(SHORT, hidden_keys=0.3, spare=5),
    "short, no keys at all": Shape(SHORT, hidden_keys=1.1),
    "a longer row": Shape([97]),
}
SETTINGS = {"no dropout": {"dropout": 0.0}, "half": {"dropout": 0.5}, "other": {"dropout": 0.2}}


def make(shape: Shape, settings: Mapping[str, Any], draw: int) -> Call:
    generator = torch.Generator().manual_seed(draw)
    offsets = torch.tensor([0, *shape.lengths]).cumsum(0).to(torch.int32)
    tokens = int(offsets[-1]) + shape.spare
    size = (tokens, shape.heads, shape.size)
    tensors = {name: random(generator, *size) for name in ("query", "key", "value")}
    tensors["offsets"] = offsets
    if shape.hidden_keys is not None:
        tensors["visible"] = torch.rand(tokens, generator=generator) >= shape.hidden_keys
    return Call(tensors, {"seed": 2**63 + 5, "update": 3, "layer": 2, **settings})


def numbers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


BAD = [
    *(Bad({"dropout": p}, ValueError, "dropout must be in") for p in (-0.1, 1.0, float("nan"))),
    *(Bad({"layer": n}, ValueError, "layer must be") for n in (-1, 256)),
    *(Bad({"update": n}, ValueError, "update must be") for n in (-1, 2**32)),
    Bad({"seed": 2**64}, ValueError, "seed must be"),
    Bad(
        {name: torch.zeros(4, 2, 0).double() for name in ("query", "key", "value")},
        ValueError,
        "query must have at least one head",
    ),
    *(
        Bad({name: torch.zeros(4, 2, 32).double()}, ValueError, f"query and {name} must have one")
        for name in ("key", "value")
    ),
    Bad({"offsets": numbers()}, ValueError, "offsets must hold"),
    Bad({"offsets": numbers(1, 5)}, ValueError, "offsets must start at 0", of_values=True),
    Bad({"offsets": numbers(0, 4, 3)}, ValueError, "offsets must ascend", of_values=True),
    Bad({"offsets": numbers(0, 2**31 - 1, -5)}, ValueError, "offsets must ascend", of_values=True),
    Bad({"offsets": numbers(0, 3, 600)}, ValueError, "offsets end at 600", of_values=True),
    Bad({"visible": torch.ones(4).bool()}, ValueError, "visible must hold"),
]

PACKED_ATTENTION = OpCase(
    name="packed_attention",
    function=packed_attention,
    make=make,
    shapes=SHAPES,
    settings=SETTINGS,
    bad=BAD,
    properties=[("short, hidden keys", "half"), ("mixed", "no dropout"), ("width 9", "other")],
    threads=[("mixed", "half"), ("one long row", "half"), ("width 9", "other")],
    emulated=[
        *(name for name, shape in SHAPES.items() if sum(shape.lengths) < 200 and shape.size < 60),
        *("short", "a longer row", "the widest heads of a GPU", "width 64", "width 65"),
    ],
    tiny=Shape([3, 1, 9], 2, 3, 0.2),
    few=("no dropout", "half"),
    norm="rms",
    draws=lambda shape: 3,
    float32=lambda shape: sum(shape.lengths) > 1,
)
