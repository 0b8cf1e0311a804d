"""Checks that `target_rank` and `top_k` share: every bad argument becomes a clear error here.

Value checks read the small integer tensors once; they cost microseconds and stay on.
"""

import torch
from torch import Tensor


def check_scoring(h: Tensor, item_embedding: Tensor) -> None:
    """Check the two factors of the scores.

    Args:
        h: Row vectors, should be [B, D].
        item_embedding: Item vectors, should be [V, D], V >= 1.

    Raises:
        TypeError: A dtype that is neither float32 nor float64, or two different ones.
        ValueError: Wrong shapes or two devices.
    """
    for name, tensor in (("h", h), ("item_embedding", item_embedding)):
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} must be float32 or float64, got {tensor.dtype}")
        if tensor.dim() != 2:
            raise ValueError(f"{name} must have 2 dimensions, got shape {list(tensor.shape)}")
    if h.dtype != item_embedding.dtype:
        raise TypeError(f"h is {h.dtype} but item_embedding is {item_embedding.dtype}")
    if h.device != item_embedding.device:
        raise ValueError(f"h is on {h.device} but item_embedding is on {item_embedding.device}")
    if h.shape[1] != item_embedding.shape[1] or h.shape[1] == 0:
        raise ValueError(
            f"h [B, D] and item_embedding [V, D] must share D >= 1, got {list(h.shape)} and "
            f"{list(item_embedding.shape)}"
        )
    if len(item_embedding) == 0:
        raise ValueError("item_embedding has no rows; row 0 is the padding item")


def check_targets(targets: Tensor, h: Tensor, classes: int) -> None:
    """Check the target of each row.

    Args:
        targets: Should be int64 [B], each in 1 .. classes - 1.
        h: Row vectors [B, D].
        classes: V, rows of the item table.

    Raises:
        TypeError: Not int64.
        ValueError: Wrong shape or device, or a target outside 1 .. classes - 1.
    """
    _check_index("targets", targets, torch.int64, [len(h)], h.device)
    bad = (targets < 1) | (targets >= classes)
    if bool(bad.any()):
        row = int(bad.int().argmax())
        raise ValueError(
            f"targets[{row}] is {int(targets[row])}; items are 1 .. {classes - 1} (0 is padding)"
        )


def check_item_lists(name: str, items: Tensor, offsets: Tensor, h: Tensor, classes: int) -> None:
    """Check one list of items per row, stored as items and offsets.

    Args:
        name: What the caller calls the items; the offsets are `<name>_offsets`.
        items: Should be int32 [K], each in 0 .. classes - 1.
        offsets: Should be int64 [B + 1], ascending, within 0 .. K.
        h: Row vectors [B, D].
        classes: V, rows of the item table.

    Raises:
        TypeError: Wrong dtype.
        ValueError: Wrong shape or device, offsets that do not ascend or leave 0 .. K, an item
            outside the table.
    """
    _check_index(name, items, torch.int32, None, h.device)
    _check_index(f"{name}_offsets", offsets, torch.int64, [len(h) + 1], h.device)
    falls = offsets[1:] < offsets[:-1]
    if bool(falls.any()):
        row = int(falls.int().argmax())
        raise ValueError(
            f"{name}_offsets must ascend, but entry {row + 1} is {int(offsets[row + 1])} after "
            f"{int(offsets[row])}"
        )
    first, last = int(offsets[0]), int(offsets[-1])
    if first < 0 or last > len(items):
        raise ValueError(
            f"{name}_offsets run from {first} to {last}, but {name} has {len(items)} entries"
        )
    used = items[first:last]
    if len(used):
        low, high = (int(value) for value in torch.aminmax(used))
        if low < 0 or high >= classes:
            index = first + int(((used < 0) | (used >= classes)).int().argmax())
            raise ValueError(
                f"{name}[{index}] is {int(items[index])}; the item table has rows 0 .. "
                f"{classes - 1}"
            )


def refuse_non_finite(row: int) -> None:
    """Raise the error for a row that has a score which is infinite or not a number.

    Args:
        row: The first such row.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"row {row} has a score that is not finite: h[{row}] or an item embedding is NaN, infinite "
        "or too large, so it cannot be ranked"
    )


def _check_index(
    name: str, tensor: Tensor, dtype: torch.dtype, shape: list[int] | None, device: torch.device
) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, got {tensor.dtype}")
    if tensor.dim() != 1 or (shape is not None and list(tensor.shape) != shape):
        wanted = shape if shape is not None else ["K"]
        raise ValueError(f"{name} must have shape {wanted}, got {list(tensor.shape)}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device} but h is on {device}")
