"""The k best items of each row, with exclusions, without a [B, V] matrix.

Not an approximation: every item is scored. There is no gradient: inputs that require one are
detached.
"""

import torch
from torch import Tensor

from .. import _native
from ._ranking_checks import (
    check_candidate_values,
    check_item_list_values,
    check_item_lists,
    check_scoring,
    refuse_non_finite,
)
from ._shared import check_same_device, check_tensor, define_op
from .torch.top_k import top_k as _in_torch
from .torch.top_k import top_k_of_candidates

_MAX_K = 1 << 20  # beyond the catalogue there is nothing to return


def _fake(
    h: Tensor,
    item_embedding: Tensor,
    k: int,
    exclude: Tensor,
    exclude_offsets: Tensor,
    candidates: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return h.new_empty((h.shape[0], k)), exclude_offsets.new_empty((h.shape[0], k))


define_op(
    "top_k",
    "(Tensor h, Tensor item_embedding, int k, Tensor exclude, Tensor exclude_offsets, "
    "Tensor? candidates=None) -> (Tensor, Tensor)",
    _fake,
)


def top_k(
    h: Tensor,
    item_embedding: Tensor,
    k: int,
    exclude: Tensor,
    exclude_offsets: Tensor,
    candidates: Tensor | None = None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return the k highest scores of each row over the items 1 .. V-1, and their items.

    The score is the dot product, summed in the fixed order of `target_rank`.

    Args:
        h: Row vectors [B, D], float32 or float64.
        item_embedding: Item vectors [V, D], the same dtype. Row 0 is padding, never returned.
        k: Number of items per row, 0 .. the greater of V and 2^20.
        exclude: Items that must not be returned [K], int32, in 0 .. V-1; row b's are
            `exclude[exclude_offsets[b]:exclude_offsets[b + 1]]`. Repeats and 0 do no harm.
        exclude_offsets: [B + 1], int64, ascending, within 0 .. K.
        candidates: The only items that may be returned [A], int32, ascending, each once; the others
            are not looked at. None for all.
        backend: "auto", "torch" or "native".

    Returns:
        Scores [B, k], the dtype of `h`, descending, ties by lower item; items [B, k], int64. Where
        fewer than k items are left, the rest is score -inf and item 0.

    Raises:
        TypeError: Wrong dtypes.
        ValueError: Wrong shapes or devices, k out of range, exclusions outside the table, offsets
            or candidates that do not ascend, or a score that is not finite (the row is named).
        InputError: "native" is not available.
    """
    op = "top_k"
    check_scoring(op, h, item_embedding)
    if k < 0:
        raise ValueError(f"{op}: k must not be negative, got {k}")
    if k > max(len(item_embedding), _MAX_K):
        raise ValueError(
            f"{op}: k must be at most {max(len(item_embedding), _MAX_K)} for {len(item_embedding)} "
            f"item vectors, got {k}"
        )
    check_item_lists(op, "exclude", exclude, exclude_offsets, len(h))
    tensors = {"exclude": exclude, "exclude_offsets": exclude_offsets}
    if candidates is not None:
        check_tensor(op, "candidates", candidates, torch.int32, 1)
        tensors["candidates"] = candidates
    check_same_device(op, h=h, item_embedding=item_embedding, **tensors)
    h, item_embedding = h.detach(), item_embedding.detach()
    if _native.backend(backend, h.device, op) == "native":
        scores, items = torch.ops.mclrec_fast.top_k(
            h, item_embedding, k, exclude, exclude_offsets, candidates
        )
    else:
        check_item_list_values(op, "exclude", exclude, exclude_offsets, len(item_embedding))
        if candidates is None:
            scores, items = _in_torch(h, item_embedding, k, exclude, exclude_offsets)
        else:
            check_candidate_values(op, candidates, len(item_embedding))
            scores, items = top_k_of_candidates(
                h, item_embedding, k, exclude, exclude_offsets, candidates
            )
    refuse_non_finite(op, (items < 0).any(dim=1))
    return scores, items
