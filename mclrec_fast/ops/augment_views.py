"""Histories and their augmented views as packed sequences: `augment_views`, `gather_sequences`.

Holds schema, fake kernels and the public functions; integers only, so there is no autograd. The
plain torch twin is torch/augment_views.py, the kernel csrc/cpu/augment_views_cpu.cpp.
Source: Qin et al., SIGIR 2023, section 4.1.
"""

import torch
from torch import Tensor

from .. import _native
from . import packed as packed_sequences
from ._shared import check_same_device, check_tensor, check_update, define_op, signed_seed
from .packed import PackedSequences
from .torch import augment_views as _in_torch

_Packed = tuple[Tensor, Tensor, Tensor]
_MOST_TOKENS = 2**31 - 1


def _augment_views_fake(
    items: Tensor, starts: Tensor, lengths: Tensor, max_length: int, *_: float
) -> _Packed:
    return _capacity(items, 3 * starts.shape[0], max_length)


def _gather_sequences_fake(
    items: Tensor, starts: Tensor, lengths: Tensor, max_length: int
) -> _Packed:
    return _capacity(items, starts.shape[0], max_length)


def _capacity(items: Tensor, rows: int, max_length: int) -> _Packed:
    tokens = rows * max_length
    return items.new_empty(tokens), items.new_empty(tokens), items.new_empty(rows + 1)


define_op(
    "augment_views",
    "(Tensor items, Tensor starts, Tensor lengths, int max_length, float crop_ratio, "
    "float mask_ratio, float reorder_ratio, int seed, int batch) -> (Tensor, Tensor, Tensor)",
    _augment_views_fake,
)
define_op(
    "gather_sequences",
    "(Tensor items, Tensor starts, Tensor lengths, int max_length) -> (Tensor, Tensor, Tensor)",
    _gather_sequences_fake,
)


def gather_sequences(
    items: Tensor, starts: Tensor, lengths: Tensor, *, max_length: int, backend: str = "auto"
) -> PackedSequences:
    """Slices of the log as a packed batch.

    Args:
        items: int32 [I], the log: all users' items end to end.
        starts: int64 [S], index of each sequence's first item.
        lengths: int32 [S], its items, 1 .. max_length.
        max_length: the longest sequence, L.
        backend: "auto", "torch" or "native".

    Returns:
        S sequences.

    Raises:
        TypeError: A tensor of another dtype.
        ValueError: Another shape or device, a length outside 1 .. L, a slice outside the log.
        InputError: "native" is not available.
    """
    _check("gather_sequences", items, starts, lengths, max_length)
    native = _native.backend(backend, items.device, "gather_sequences") == "native"
    max_length = _longest("gather_sequences", lengths, max_length, 1, native)
    if native:
        packed = torch.ops.mclrec_fast.gather_sequences(items, starts, lengths, max_length)
        return PackedSequences(*packed).narrow()
    _check_slices("gather_sequences", items, starts, lengths, max_length)
    return _in_torch.gather_sequences(items, starts, lengths, max_length=max_length)


def augment_views(
    items: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    max_length: int,
    crop_ratio: float,
    mask_ratio: float,
    reorder_ratio: float,
    seed: int,
    batch: int,
    backend: str = "auto",
) -> PackedSequences:
    """Histories and two views of each, by two different operators out of crop, mask and reorder.

    A history of one item is its own view. A masked item (id 0) leaves the view unless it is the
    last; the others keep their position. Every backend draws the same bits.

    Args:
        items: int32 [I], the log: all users' items end to end.
        starts: int64 [S], index of each history's first item.
        lengths: int32 [S], its items, 1 .. max_length.
        max_length: the longest history, L.
        crop_ratio: share cut off by crop, 0 <= ratio < 1.
        mask_ratio: share masked, 0 <= ratio < 1.
        reorder_ratio: share inside the permuted window, 0 <= ratio <= 1.
        seed: key of the random numbers, 64 bits.
        batch: number of the batch, 0 .. 2**32 - 1.
        backend: "auto", "torch" or "native".

    Returns:
        3S sequences: the histories, their first views, their second views.

    Raises:
        TypeError: A tensor of another dtype.
        ValueError: Another shape or device, a value out of range, a slice outside the log.
        InputError: "native" is not available.
    """
    _check("augment_views", items, starts, lengths, max_length)
    _check_ratios(crop_ratio, mask_ratio, reorder_ratio)
    check_update("batch", batch)
    seed = signed_seed(seed)
    native = _native.backend(backend, items.device, "augment_views") == "native"
    max_length = _longest("augment_views", lengths, max_length, 3, native)
    if native:
        packed = torch.ops.mclrec_fast.augment_views(
            items,
            starts,
            lengths,
            max_length,
            crop_ratio,
            mask_ratio,
            reorder_ratio,
            seed,
            batch,
        )
        return PackedSequences(*packed).narrow()
    _check_slices("augment_views", items, starts, lengths, max_length)
    return _in_torch.augment_views(
        items,
        starts,
        lengths,
        max_length=max_length,
        crop_ratio=crop_ratio,
        mask_ratio=mask_ratio,
        reorder_ratio=reorder_ratio,
        seed=seed,
        batch=batch,
    )


def _check(op: str, items: Tensor, starts: Tensor, lengths: Tensor, max_length: int) -> None:
    check_tensor(op, "items", items, torch.int32, 1)
    check_tensor(op, "starts", starts, torch.int64, 1)
    check_tensor(op, "lengths", lengths, torch.int32, 1)
    check_same_device(op, items=items, starts=starts, lengths=lengths)
    if starts.shape != lengths.shape:
        raise ValueError(
            f"{op}: starts and lengths must have one size, got {len(starts)} and {len(lengths)}"
        )
    if max_length < 1:
        raise ValueError(f"{op}: max_length must be at least 1, got {max_length}")


def _longest(op: str, lengths: Tensor, max_length: int, copies: int, native: bool) -> int:
    """The longest sequence there is, at most `max_length`: memory is taken for so many each.

    Where only a device knows it is `max_length`. Wrong lengths change nothing, and are named later.
    """
    if packed_sequences.free_to_read(lengths) or not native:
        low, high = map(int, lengths.aminmax()) if len(lengths) else (1, 1)
        max_length = min(max_length, high) if low >= 1 else max_length
    rows = copies * len(lengths)
    if max_length * max(rows, 1) > _MOST_TOKENS:
        raise ValueError(
            f"{op}: {rows} sequences of up to {max_length} items are more than 2^31 tokens; use a "
            "smaller batch"
        )
    return max_length


def _check_ratios(crop_ratio: float, mask_ratio: float, reorder_ratio: float) -> None:
    for name, ratio in (("crop_ratio", crop_ratio), ("mask_ratio", mask_ratio)):
        if not 0.0 <= ratio < 1.0:
            raise ValueError(f"augment_views: {name} must be in [0, 1), got {ratio}")
    if not 0.0 <= reorder_ratio <= 1.0:
        raise ValueError(f"augment_views: reorder_ratio must be in [0, 1], got {reorder_ratio}")


def _check_slices(op: str, items: Tensor, starts: Tensor, lengths: Tensor, max_length: int) -> None:
    """The kernel's checks of values, with its words."""
    short = (lengths < 1) | (lengths > max_length)
    if bool(short.any()):
        s = int(short.nonzero()[0])
        raise ValueError(f"{op}: lengths[{s}] must be in 1..{max_length}, got {int(lengths[s])}")
    outside = (starts < 0) | (starts > len(items) - lengths)
    if bool(outside.any()):
        s = int(outside.nonzero()[0])
        raise ValueError(
            f"{op}: sequence {s} (start {int(starts[s])}, length {int(lengths[s])}) lies outside "
            f"the {len(items)} items"
        )
