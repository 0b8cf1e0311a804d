"""`encode`: weights and packed batches, by name of what is ugly about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mclrec_fast.ops import PackedSequences, encode

from .op_case import Bad, Call, OpCase, random, widths

ITEMS, POSITIONS = 60, 200


@dataclass(frozen=True)
class Shape:
    """Sequence lengths and the encoder's sizes; ``masked``: share of last tokens with id 0."""

    lengths: list[int]
    hidden: int = 64
    inner: int = 256
    heads: int = 2
    layers: int = 2
    masked: float = 0.0
    masked_anywhere: float = 0.0
    spare: int = 0
    eps: float = 1e-12
    items: int = ITEMS
    positions: int = POSITIONS


MIXED = [3, 1, 5, 50, 2, 8, 8, 9, 7, 17, 33, 1, 4, 16, 32, 31, 64, 65]
SHORT = [3, 1, 8, 2, 5, 5]


def of_width(d: int) -> Shape:
    """The variance of one element is 0: a small eps would magnify rounding a million times."""
    heads = next(heads for heads in (2, 3, 5, 7, 1) if d % heads == 0)
    return Shape([*SHORT, 9, 13, 2, 1, 6], d, d + 1, heads, 2, eps=0.1 if d == 1 else 1e-12)


SHAPES = {
    "one token": Shape([1]),
    "one row": Shape([9]),
    "mixed": Shape(MIXED),
    "masked last tokens": Shape(MIXED, masked=0.5),
    "masked single tokens": Shape([1] * 6, masked=0.7),
    "masked tokens anywhere": Shape(MIXED, masked_anywhere=0.3),
    "spare capacity": Shape(MIXED, spare=77),
    "lengths all equal": Shape([7] * 60),
    "only single tokens": Shape([1] * 150),
    "one long row": Shape([200]),
    "a long row among short ones": Shape([2] * 300 + [150] + [3] * 300),
    "many chunks": Shape([1, 2, 3, 4, 5, 6, 7] * 100),
    "width 8, four heads of 2": Shape(MIXED, 8, 16, 4, 2),
    "width 24, one head": Shape(MIXED, 24, 40, 1, 1),
    "width 18, heads of 6": Shape(MIXED, 18, 33, 3, 2),
    "width 72, heads of 18": Shape(MIXED, 72, 100, 4, 3),
    "width 48, heads of 24": Shape(MIXED, 48, 64, 2, 2),
    "width 144": Shape([2, 5], 144, 72, 2, 2),
    "width 10, odd inner": Shape([*SHORT, 9, 13, 2, 1, 6], 10, 19, 2, 2),
    **widths(of_width),
    "one layer": Shape(MIXED, layers=1),
    "three layers": Shape(MIXED, layers=3),
    "four heads": Shape(MIXED, heads=4),
    "inner size 130": Shape(MIXED, inner=130),
    "inner size 1": Shape(MIXED, inner=1),
    "one item": Shape(SHORT, 16, 24, items=2, masked_anywhere=0.3),
    "short": Shape(SHORT, spare=9, masked=0.3),
    "short and narrow": Shape(SHORT, 16, 32, masked=0.3, spare=3),
    "short, three layers": Shape([*SHORT, 9, 13, 2, 1, 6], 8, 16, layers=3, spare=1),
    "short, one layer": Shape(SHORT, 16, 16, 4, 1),
    "lengths around a warp": Shape([31, 32, 33], 8, 8, 1),
    "few lengths all equal": Shape([4] * 9, 16, 24, 1, spare=3),
    "a longer row among short ones": Shape([2, 70, 1], 16, 32),
    "more tokens than a row tile": Shape([9] * 12, 8, 16),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "no dropout": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "half": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "other": {"hidden_dropout": 0.2, "attention_dropout": 0.3},
    "half and other": {"hidden_dropout": 0.5, "attention_dropout": 0.1},
}
ADDRESS = {"seed": 2**63 + 12345, "update": 7}
PACKED = PackedSequences._fields
WEIGHTS = ("item_embedding", "position_embedding", "norm", "norm_bias")
LAYER = (
    *(f"{part}{kind}" for part in ("query", "key", "value", "output") for kind in ("", "_bias")),
    *("attention_norm", "attention_norm_bias", "inner", "inner_bias", "outer", "outer_bias"),
    *("last_norm", "last_norm_bias"),
)


def weights_of(shape: Shape, draw: int = 0) -> dict[str, Tensor]:
    """Weights in the op's order, norms away from 1 and 0."""
    generator = torch.Generator().manual_seed(draw)
    d, f = shape.hidden, shape.inner
    matrices = {"inner": (f, d), "outer": (d, f)}
    matrices |= dict.fromkeys(("query", "key", "value", "output"), (d, d))
    matrices |= {"item_embedding": (shape.items, d), "position_embedding": (shape.positions, d)}
    names = [*WEIGHTS, *(f"{name} {layer}" for layer in range(shape.layers) for name in LAYER)]
    weights = {}
    for number, name in enumerate(names):
        kind = name.split(" ")[0]
        size = matrices.get(kind, (f,) if kind == "inner_bias" else (d,))
        scale = size[-1] ** -0.5 if number >= len(WEIGHTS) and len(size) == 2 else 0.1
        values = random(generator, *size) * scale + (1.0 if kind.endswith("norm") else 0.0)
        weights[name] = values.float().double()
    return weights


def batch_of(shape: Shape, draw: int = 0) -> PackedSequences:
    """A batch of these lengths; unused capacity holds ids that no table has."""
    generator = torch.Generator().manual_seed(draw)
    lengths = torch.tensor(shape.lengths, dtype=torch.int32)
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    offsets[1:] = lengths.cumsum(0)
    tokens = int(offsets[-1])
    items = torch.randint(1, shape.items, (tokens,), generator=generator, dtype=torch.int32)
    items[torch.rand(tokens, generator=generator) < shape.masked_anywhere] = 0
    last = (offsets[1:] - 1).long()
    items[last[torch.rand(len(last), generator=generator) < shape.masked]] = 0
    skipped = torch.randint(0, 2, (tokens,), generator=generator, dtype=torch.int32)
    positions = torch.cat([torch.arange(n, dtype=torch.int32) for n in shape.lengths])
    positions = (positions + skipped).clamp_max(shape.positions - 1)
    spare = torch.full((shape.spare,), 2**31 - 1, dtype=torch.int32)
    return PackedSequences(torch.cat([items, spare]), torch.cat([positions, spare]), offsets)


def make(shape: Shape, settings: Mapping[str, Any], draw: int) -> Call:
    tensors = {**batch_of(shape, draw)._asdict(), **weights_of(shape, draw)}
    return Call(tensors, {"heads": shape.heads, "eps": shape.eps, **ADDRESS, **settings})


def call(
    items: Tensor, positions: Tensor, offsets: Tensor, *, backend: str, **others: Any
) -> Tensor:
    """`encode`, its weights given one by one."""
    settings = {name: others.pop(name) for name in list(others) if name in NAMES}
    packed = PackedSequences(items, positions, offsets)
    return encode(packed, list(others.values()), **settings, backend=backend)


NAMES = ("heads", "hidden_dropout", "attention_dropout", "eps", "seed", "update", "rows")


def sizes(found: dict[str, float], call: Call, device: str) -> dict[str, float]:
    """What the gradients that are 0 in theory are measured by.

    The key bias' is the rounding of a sum over all tokens of what the key weight's also sums. On a
    GPU those that are exactly 0 (a query's, where it has one key only) are differences of two dot
    products of D numbers, each of which rounds by about sqrt(D) units.
    """
    tokens, hidden = int(call.tensors["offsets"][-1]), call.tensors["norm"].numel()
    changed = dict(found)
    for name in found:
        if name.startswith("d key_bias"):
            changed[name] = found[name.replace("_bias", "")] * tokens**0.5
        if device == "cuda" and found[name] == 0.0:
            changed[name] = hidden**0.5 * max(x for n, x in found.items() if n.startswith("d "))
    return changed


def numbers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def with_value(name: str, index: int, value: int) -> dict[str, Tensor]:
    """The good call's tensor with one other entry."""
    tensor = make(SHAPES["short and narrow"], {}, 0).tensors[name].clone()
    tensor[index] = value
    return {name: tensor}


SCALARS = [
    ("heads", ValueError, "heads must divide", (3, 0, -1)),
    ("hidden_dropout", ValueError, "hidden_dropout must be in", (-0.1, 1.0, float("nan"))),
    ("attention_dropout", ValueError, "attention_dropout must be in", (-0.1, 1.0, float("nan"))),
    ("eps", ValueError, "eps must be", (-1.0, float("nan"))),
    ("update", ValueError, "update must be", (-1, 2**32)),
    ("seed", ValueError, "seed must be", (2**64, -(2**63) - 1)),
    ("update", TypeError, "update must be torch.int64", (torch.tensor(3).int(),)),
    ("update", ValueError, "update must have 0 dim", (torch.tensor([3]),)),
    ("update", ValueError, "one device.* update on meta", (torch.tensor(3, device="meta"),)),
]
BAD = [
    *(Bad({n: value}, error, text) for n, error, text, values in SCALARS for value in values),
    Bad({"update": torch.tensor(2**32)}, ValueError, "update must be", of_values=True),
    Bad({"positions": numbers(1, 2)}, ValueError, "items and positions must have one size"),
    *(
        Bad(with_value(name, 1, value), ValueError, rf"{name}\[1\] must be in", of_values=True)
        for name, values in (("items", (-1, ITEMS, 2**31 - 1)), ("positions", (-1, POSITIONS)))
        for value in values
    ),
    Bad({"offsets": numbers()}, ValueError, "offsets must hold"),
    *(
        Bad({"offsets": numbers(*values)}, ValueError, text, of_values=True)
        for text, values in (
            ("offsets must start at 0", (1, 3, 5)),
            ("offsets must ascend", (0, 3, 3)),
            ("offsets must ascend", (0, 4, 2)),
            ("offsets must ascend", (0, 2**31 - 1, -5)),
            ("offsets end at 90", (0, 3, 90)),
        )
    ),
    *(
        Bad({name: torch.zeros([n + 1 for n in x.shape]).double()}, ValueError, "must have shape")
        for name, x in weights_of(SHAPES["short and narrow"]).items()
        if name != "item_embedding"
    ),
]

ENCODE = OpCase(
    name="encode",
    function=call,
    make=make,
    shapes=SHAPES,
    settings=SETTINGS,
    bad=BAD,
    properties=[("short and narrow", "half"), ("mixed", "no dropout"), ("spare capacity", "other")],
    threads=[
        (shape, setting)
        for shape in ("many chunks", "a long row among short ones", "one row")
        for setting in ("half", "other")
    ],
    emulated=[
        *("one token", "short", "short and narrow", "short, three layers", "short, one layer"),
        *("few lengths all equal", "a longer row among short ones", "lengths around a warp"),
        *("width 10, odd inner", "width 144", "more tokens than a row tile"),
        *(f"width {d}" for d in (7, 8, 9, 15, 17, 33, 65)),
    ],
    tiny=Shape([3, 1, 4], 4, 6, 2, 2, eps=1e-5, items=8, positions=8),
    few=("no dropout", "half"),
    norm="rms",
    # The errors of a row have one common factor, and a row of few elements may have nearly no
    # variance, which magnifies any rounding.
    draws=lambda shape: (
        15 if shape.hidden < 16 else 5 if len(shape.lengths) < 12 or shape.hidden < 64 else 2
    ),
    float32=lambda shape: min(shape.hidden, shape.inner) > 1,
    tolerance=lambda call: 3e-13,  # the largest error on any set is below 1.6e-14
    sizes=sizes,
    said=lambda name: name if name in PACKED else r"(item_embedding|weights\[\d+\]( \(\w+\))?)",
)
