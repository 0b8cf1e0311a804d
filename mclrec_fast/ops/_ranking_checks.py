"""Checks that `target_rank` and `top_k` share.

`check_scoring` and `check_item_lists` look at dtypes and shapes only, for every backend. The
`*_values` functions are the kernels' checks of values, with their words, for the torch path.
"""

import torch
from torch import Tensor

from ._shared import check_tensor


def check_scoring(op: str, h: Tensor, item_embedding: Tensor) -> None:
    """Check the two factors of the scores, h [B, D] and item_embedding [V, D].

    Raises:
        TypeError: A dtype that is neither float32 nor float64, or two different ones.
        ValueError: Wrong shapes.
    """
    for name, tensor in (("h", h), ("item_embedding", item_embedding)):
        check_tensor(op, name, tensor, (torch.float32, torch.float64), 2)
    if h.dtype != item_embedding.dtype:
        raise TypeError(f"{op}: h is {h.dtype} but item_embedding is {item_embedding.dtype}")
    if h.shape[1] != item_embedding.shape[1] or h.shape[1] == 0:
        raise ValueError(
            f"{op}: h [B, D] and item_embedding [V, D] must share D >= 1, got {list(h.shape)} and "
            f"{list(item_embedding.shape)}"
        )
    if len(item_embedding) == 0:
        raise ValueError(f"{op}: item_embedding has no rows; row 0 is the padding item")


def check_item_lists(op: str, name: str, items: Tensor, offsets: Tensor, batch: int) -> None:
    """Check the form of one list of items per row: items int32 [K], offsets int64 [B + 1].

    Raises:
        TypeError: Wrong dtype.
        ValueError: Wrong shape.
    """
    check_tensor(op, name, items, torch.int32, 1)
    check_per_row(op, f"{name}_offsets", offsets, batch + 1)


def check_per_row(op: str, name: str, tensor: Tensor, length: int) -> None:
    """Check that a tensor is int64 [length].

    Raises:
        TypeError: Wrong dtype.
        ValueError: Wrong shape.
    """
    check_tensor(op, name, tensor, torch.int64, 1)
    if len(tensor) != length:
        raise ValueError(f"{op}: {name} must have shape [{length}], got {list(tensor.shape)}")


def check_target_values(op: str, targets: Tensor, classes: int) -> None:
    """Check that every target is in 1 .. classes - 1.

    Raises:
        ValueError: One is not.
    """
    bad = (targets < 1) | (targets >= classes)
    if bool(bad.any()):
        row = _first(bad)
        raise ValueError(
            f"{op}: targets[{row}] is {int(targets[row])}; items are 1 .. {classes - 1} "
            "(0 is padding)"
        )


def check_item_list_values(
    op: str, name: str, items: Tensor, offsets: Tensor, classes: int
) -> None:
    """Check that the offsets ascend within 0 .. K and every listed item is in the table.

    Raises:
        ValueError: Some offset or item is not as it must be.
    """
    falls = offsets[1:] < offsets[:-1]
    if bool(falls.any()):
        row = _first(falls)
        raise ValueError(
            f"{op}: {name}_offsets must ascend, but entry {row + 1} is {int(offsets[row + 1])} "
            f"after {int(offsets[row])}"
        )
    first, last = int(offsets[0]), int(offsets[-1])
    if first < 0 or last > len(items):
        raise ValueError(
            f"{op}: {name}_offsets run from {first} to {last}, but {name} has {len(items)} entries"
        )
    outside = (items[first:last] < 0) | (items[first:last] >= classes)
    if bool(outside.any()):
        index = first + _first(outside)
        raise ValueError(
            f"{op}: {name}[{index}] is {int(items[index])}; the item table has rows 0 .. "
            f"{classes - 1}"
        )


def check_candidate_values(op: str, candidates: Tensor, classes: int) -> None:
    """Check that candidates ascend within 1 .. classes - 1.

    Raises:
        ValueError: One is not as it must be.
    """
    before = torch.cat((candidates.new_zeros(1), candidates[:-1]))[: len(candidates)]
    bad = (candidates <= before) | (candidates >= classes)
    if bool(bad.any()):
        index = _first(bad)
        raise ValueError(
            f"{op}: candidates must ascend in 1 .. {classes - 1}, but entry {index} is "
            f"{int(candidates[index])}"
        )


def refuse_non_finite(op: str, bad: Tensor) -> None:
    """Refuse rows with a score that is infinite or not a number.

    Args:
        op: Name of the op.
        bad: bool [B], the rows.

    Raises:
        ValueError: There is one; the message names the first.
    """
    if bool(bad.any()):
        row = _first(bad)
        raise ValueError(
            f"{op}: row {row} has a score that is not finite (h[{row}] or an item embedding is "
            "NaN, infinite or too large), so it cannot be ranked"
        )


def _first(flags: Tensor) -> int:
    return int(flags.int().argmax())
