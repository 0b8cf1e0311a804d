"""`contrast` and `info_nce`: views of a batch, with dot products of every size."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mclrec_fast.ops import contrast, info_nce

from .accuracy import largest
from .op_case import Bad, Call, OpCase, random, widths


class Shape(NamedTuple):
    """B, D, the size of the dot products, and what the rows are."""

    rows: int
    width: int
    size: float = 1.0
    kind: str = "normal"


SHAPES = {
    "one row": Shape(1, 5),
    "two rows": Shape(2, 3),
    "three rows": Shape(3, 16),
    **widths(lambda d: Shape(9 if d < 60 else 20, d)),
    "a vector of rows": Shape(16, 16),
    "a vector of rows and one": Shape(17, 16),
    "exactly tiles of 64": Shape(64, 64),
    "one row over a tile of 64": Shape(65, 32),
    "one row over a tile of 64, large products": Shape(65, 32, 8.0),
    "width 150": Shape(5, 150),
    "one tile exactly": Shape(128, 32),
    "one row over a tile": Shape(129, 32),
    "two groups": Shape(256, 64),
    "uneven groups": Shape(300, 24),
    "recomputed, not stored": Shape(1030, 16),
    **{
        f"{name}, products of {size:g}": Shape(*shape, size)
        for size in (64.0, 1e4)
        for name, shape in {"two rows": (2, 3), "three rows": (3, 16), "many": (300, 24)}.items()
    },
    **{
        f"{rows} rows of very different size": Shape(rows, 8, 4.0, "spread")
        for rows in (9, 300, 1030)
    },
    **{f"{rows} equal rows": Shape(rows, 4, 1.0, "equal") for rows in (2, 3, 130)},
    "zero rows": Shape(9, 4, 1.0, "zero rows"),
}
DIFFERENT = {"temperature": 0.2, "similarity": "cos"}


def view(shape: Shape, generator: torch.Generator) -> Tensor:
    """[B, D] with dot products of about this size."""
    x = random(generator, shape.rows, shape.width) * (shape.size / shape.width**0.5) ** 0.5
    if shape.kind == "equal":
        return torch.ones_like(x)
    if shape.kind == "spread":
        # Maxima of one tile hundreds of powers of two apart: no exponential may serve two rows.
        size = torch.logspace(-3, 1.5, shape.rows).double()[:, None]
        x = x * size[torch.randperm(shape.rows, generator=torch.Generator().manual_seed(1))]
    if shape.kind == "zero rows":  # without direction: cos divides them by 1e-8
        x[2] = 0.0
    return x.float().double()


def made_of(*names: str) -> Any:
    """How to make a call of these views."""

    def make(shape: Shape, settings: Mapping[str, Any], draw: int) -> Call:
        generator = torch.Generator().manual_seed(draw)
        views = {name: view(shape, generator) for name in names}
        rows = torch.cat(list(views.values()))
        dot = largest(rows @ rows.T)
        temperature = settings.get("temperature", 1.0)
        if names[0] == "h1":  # R and the other contrasts are of plain products
            logit = dot / min(temperature, 1.0)
        else:
            logit = (1.0 if settings.get("similarity") == "cos" else dot) / temperature
        return Call(views, dict(settings), logit)

    return make


def smooth(call: Call) -> list[float] | None:
    """R has no gradient where two largest negatives of a row are equal, or one and the positive.

    Equal but for rounding, which decides on either backend. Where products are exact both take the
    first of equals, as the shapes of equal rows check.
    """
    x = {name: view.double() for name, view in call.tensors.items()}
    if len(x["h1"]) == 1:
        return None
    for a, b in (("z1", "z2"), ("h1", "z2"), ("h2", "z1")):
        for u, v in ((x[a], x[b]), (x[b], x[a])):
            none = torch.full((len(u),), -torch.inf).diag()
            negatives = torch.cat([u @ u.T + none, u @ v.T + none], 1)  # [B, 2B]
            rivals = torch.cat(
                [negatives.topk(2).values, (u * v).sum(1, keepdim=True)], 1
            )  # [B, 3]
            m, second, p = rivals.T
            rounding = 1e-5 * u.norm(dim=1) * torch.cat([u, v]).norm(dim=1).max()
            if (torch.minimum(m - second, (m - p).abs()) <= rounding).any():
                return [1.5, 0.75, 0.0]
    return None


def condition(call: Call) -> float:
    """The cosine divides a gradient by the length of a row, which is 0 only for a row of zeros."""
    if call.settings.get("similarity") != "cos":
        return 1.0
    shortest = min(float(x.double().norm(dim=1).min()) for x in call.tensors.values())
    return max(1.0, 1.0 / max(shortest, 1e-8))


def bad(*names: str) -> list[Bad]:
    """Bad views of a good batch of 18 x 12, and bad settings."""
    first, *others = names
    empty = {name: torch.zeros(0, 12).double() for name in names}
    narrow = {name: torch.zeros(18, 0).double() for name in names}
    wrong = [torch.zeros(17, 12).double(), torch.zeros(18, 11).double()]
    return [
        *(
            Bad({name: x}, ValueError, f"{name} must have the shape of {first}")
            for name in others
            for x in wrong
        ),
        *(Bad(change, ValueError, f"{first} must not be empty") for change in (empty, narrow)),
        *(
            Bad({"temperature": t}, ValueError, "temperature must be positive")
            for t in (0.0, -1.0, float("nan"), float("inf"))
        ),
        Bad({"similarity": "euclid"}, ValueError, "similarity must be 'dot' or 'cos'"),
    ]


PROPERTIES = [("plain", "dot"), ("plain", "cos"), ("uneven groups", "cos")]
THREADS = [
    (shape, setting)
    for shape in ("width 9", "many, products of 64", "recomputed, not stored")
    for setting in ("dot", "cos")
]
EMULATED = [
    *("one row", "two rows", "three rows", "exactly tiles of 64", "width 150", "zero rows"),
    *("one row over a tile of 64", "one row over a tile", "9 rows of very different size"),
    *(
        "three rows, products of 64",
        "three rows, products of 10000",
    ),
    *(f"width {d}" for d in (1, 7, 8, 9, 15, 17, 33, 65)),
]
SHAPES["plain"] = Shape(18, 12)
COMMON: dict[str, Any] = {
    "shapes": SHAPES,
    "properties": PROPERTIES,
    "threads": THREADS,
    "emulated": EMULATED,
    "tiny": Shape(4, 3),
    "tolerance": lambda call: 1e-14 * (10 + call.logit),
}

CONTRAST = OpCase(
    name="contrast",
    function=contrast,
    make=made_of("h1", "h2", "z1", "z2"),
    settings={
        "dot": {},
        "without cl1": {"cl1": False},
        "dot, cold": {"temperature": 0.3},
        "cos": DIFFERENT,
    },
    bad=bad("h1", "h2", "z1", "z2"),
    smooth=smooth,
    condition=condition,
    **COMMON,
)
INFO_NCE = OpCase(
    name="info_nce",
    function=info_nce,
    make=made_of("a", "b"),
    settings={"dot": {}, "dot, cold": {"temperature": 0.3}, "cos": DIFFERENT},
    bad=bad("a", "b"),
    condition=condition,
    **COMMON,
)
