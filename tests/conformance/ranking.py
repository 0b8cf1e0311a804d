"""`target_rank` and `top_k`: rows, a catalogue with ties, targets and lists of seen items."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mclrec_fast.ops import target_rank, top_k

from .op_case import Bad, Call, OpCase, random, widths


class Shape(NamedTuple):
    """B, V, D, and whether scores are exact in float32 ("dyadic", many ties) or "rounded"."""

    rows: int
    items: int
    width: int
    kind: str = "dyadic"


SHAPES = {
    "one row of one item": Shape(1, 2, 1),
    "one row": Shape(1, 40, 64),
    "no rows": Shape(0, 40, 12),
    **widths(lambda d: Shape(5, 33, d)),
    **{f"{name}, rounded": s._replace(kind="rounded") for name, s in widths(
        lambda d: Shape(7, 90, d)
    ).items()},
    "vectors and one": Shape(13, 33, 65),
    "a tile of rows": Shape(64, 101, 64),
    "more than tiles of 64": Shape(66, 129, 64),
    "many items": Shape(7, 700, 8),
    "few items": Shape(99, 9, 3),
    "width 150": Shape(3, 9, 150),
    "one row of many items": Shape(2, 9000, 5),
    "usual, rounded": Shape(40, 3000, 64, "rounded"),
    "many rows, rounded": Shape(100, 50, 1, "rounded"),
    "a large catalogue, rounded": Shape(3, 5000, 33, "rounded"),
    "plain": Shape(11, 40, 12),
}  # fmt: skip
LONGEST = 9


def lists_per_row(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Store one list of items per row as items int32 [K] and offsets int64 [B + 1]."""
    items = torch.tensor([item for row in rows for item in row], dtype=torch.int32)
    lengths = torch.tensor([0] + [len(row) for row in rows], dtype=torch.int64)
    return items, lengths.cumsum(0)


def inputs(shape: Shape, draw: int = 0) -> dict[str, Tensor]:
    """Arguments of `target_rank`.

    Dyadic: coordinates are few multiples of 1/4, so float64 is an exact oracle. Rounded: every
    item has one twin and one near twin, far away in the table. Histories hold repeats, the padding
    item and sometimes the target.
    """
    generator = torch.Generator().manual_seed(draw)
    b, v, d, kind = shape
    if kind == "dyadic":
        h = torch.randint(-4, 5, (b, d), generator=generator) / 4
        table = torch.randint(-4, 5, (v, d), generator=generator) / 4
    else:
        h, half = random(generator, b, d), random(generator, v, d)
        table = torch.cat([half, half[1:], (half[1:] * (1 + 1e-7)).float().double()])
        v = len(table)
    targets = torch.randint(1, v, (b,), generator=generator)
    rows = []
    for row in range(b):
        length = int(torch.randint(0, LONGEST + 1, (1,), generator=generator))
        items = torch.randint(0, v, (length,), generator=generator).tolist()
        if length and row % 3 == 0:
            items[0] = int(targets[row])
        if length and row % 2 == 0:
            items.append(items[-1])
        rows.append(items)
    history, offsets = lists_per_row(rows)
    return {
        "h": h.double(),
        "item_embedding": table.double(),
        "targets": targets,
        "history": history,
        "history_offsets": offsets,
    }


def make_rank(shape: Shape, settings: Mapping[str, Any], draw: int) -> Call:
    return Call(inputs(shape, draw), dict(settings))


def make_top(shape: Shape, settings: Mapping[str, Any], draw: int) -> Call:
    """The history as exclusions; `among` says which items are candidates."""
    tensors = inputs(shape, draw)
    del tensors["targets"]
    names = {"history": "exclude", "history_offsets": "exclude_offsets"}
    tensors = {names.get(n, n): x for n, x in tensors.items()}
    rest = dict(settings)
    among = rest.pop("among", None)
    if among is not None:
        tensors["candidates"] = CANDIDATES[among](len(tensors["item_embedding"]))
    return Call(tensors, rest)


CANDIDATES = {
    "none": lambda v: torch.zeros(0, dtype=torch.int32),
    "all": lambda v: torch.arange(1, v, dtype=torch.int32),
    "every third": lambda v: torch.arange(1, v, 3, dtype=torch.int32),
    "few missing": lambda v: torch.tensor([i for i in range(1, v) if i % 37], dtype=torch.int32),
}


def items_of(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def bad_lists(name: str, good: Tensor) -> list[Bad]:
    """Lists of items and their offsets, of 11 rows over 40 items."""

    def offsets(*changes: tuple[int, int]) -> dict[str, Tensor]:
        changed = good.clone()
        for index, value in changes:
            changed[index] = value
        return {f"{name}_offsets": changed}

    total = int(good[-1])
    return [
        *(
            Bad({name: items_of(*[1] * (total - 1), value)}, ValueError, text, of_values=True)
            for value, text in ((40, rf"{name}\[{total - 1}\] is 40"), (-1, r"\] is -1"))
        ),
        Bad(offsets((3, 1), (2, 2)), ValueError, f"{name}_offsets must ascend", of_values=True),
        Bad(offsets((-1, total + 1)), ValueError, f"{total} entries", of_values=True),
        Bad(offsets((0, -1)), ValueError, f"{name}_offsets run from -1", of_values=True),
        Bad({f"{name}_offsets": good[:-1]}, ValueError, f"{name}_offsets must have shape"),
    ]


SCORING = [
    Bad({"h": torch.zeros(11, 13).double()}, ValueError, r"h \[B, D\] and item_embedding .*share"),
    Bad({"item_embedding": torch.zeros(40, 13).double()}, ValueError, "item_embedding .*share D"),
    Bad({"item_embedding": torch.zeros(0, 12).double()}, ValueError, "item_embedding has no rows"),
    Bad({"h": torch.zeros(11, 12)}, TypeError, "h is torch.float32 but item_embedding"),
    *(
        Bad({"h": torch.full((11, 12), bad).double()}, ValueError, "row 0 has a score that is not")
        for bad in (torch.nan, torch.inf, -torch.inf)
    ),
]
GOOD = inputs(SHAPES["plain"])["history_offsets"]


def bad_targets() -> list[Bad]:
    def targets(index: int, value: int) -> dict[str, Tensor]:
        tensor = torch.ones(11, dtype=torch.int64)
        tensor[index] = value
        return {"targets": tensor}

    return [
        Bad(targets(3, 0), ValueError, r"targets\[3\] is 0", of_values=True),
        Bad(targets(1, 40), ValueError, r"targets\[1\] is 40", of_values=True),
        Bad(targets(1, 2**40), ValueError, r"targets\[1\] is", of_values=True),
        Bad({"targets": torch.ones(10).long()}, ValueError, "targets must have shape"),
    ]


COMMON: dict[str, Any] = {
    "shapes": SHAPES,
    "differentiable": False,
    "exact": True,
    "fused": lambda shape: shape.kind == "rounded",
    "emulated": [
        *(name for name, shape in SHAPES.items() if shape.rows * shape.items < 10_000),
        "many items",
    ],
}
TARGET_RANK = OpCase(
    name="target_rank",
    function=target_rank,
    make=make_rank,
    settings={"rank": {}},
    bad=[*SCORING, *bad_targets(), *bad_lists("history", GOOD)],
    properties=[("plain", "rank"), ("width 33, rounded", "rank")],
    threads=[("usual, rounded", "rank"), ("few items", "rank"), ("one row of many items", "rank")],
    **COMMON,
)
TOP_K = OpCase(
    name="top_k",
    function=top_k,
    make=make_top,
    settings={
        **{f"k = {k}": {"k": k} for k in (0, 1, 5, 20, 400)},
        **{f"of {among}": {"k": 20, "among": among} for among in CANDIDATES},
    },
    everywhere=("k = 1", "k = 20", "k = 400", "of every third", "of few missing"),
    bad=[
        *SCORING,
        Bad({"k": -1}, ValueError, "k must not be negative"),
        *(
            Bad({"k": k}, ValueError, f"k must be at most 1048576 .* got {k}")
            for k in (2**31, 2**62, 2**64)
        ),
        Bad({"candidates": torch.ones(1, 1).int()}, ValueError, "candidates must have 1 dim"),
        Bad({"candidates": torch.ones(1)}, TypeError, "candidates must be torch.int32"),
        *(
            Bad({"candidates": items_of(*c)}, ValueError, r"must ascend in 1 .. 39", of_values=True)
            for c in ((0, 1), (3, 2), (4, 4), (1, 40), (-1,))
        ),
        *bad_lists("exclude", GOOD),
    ],
    properties=[("plain", "k = 5"), ("width 33, rounded", "k = 20"), ("plain", "of every third")],
    threads=[
        ("usual, rounded", "k = 20"),
        ("usual, rounded", "of every third"),
        ("one row of many items", "k = 20"),
    ],
    **COMMON,
)
