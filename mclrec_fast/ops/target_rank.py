"""Full ranking: where one target per row stands among all items, without a [B, V] matrix.

Ties count half (rounded down), so a scorer that gives every item the same score earns the rank of
a coin toss, not rank 0. Ranks have no gradient: inputs that require one are detached.
Source: leave-one-out evaluation over the whole catalogue, history unmasked and masked.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import _native
from ._ranking_checks import (
    check_item_list_values,
    check_item_lists,
    check_per_row,
    check_scoring,
    check_target_values,
    refuse_non_finite,
)
from ._shared import check_same_device, define_op
from .torch.target_rank import target_rank as _in_torch


def _fake(
    h: Tensor, item_embedding: Tensor, targets: Tensor, history: Tensor, history_offsets: Tensor
) -> Tensor:
    return targets.new_empty((4, h.shape[0]))


define_op(
    "target_rank",
    "(Tensor h, Tensor item_embedding, Tensor targets, Tensor history, Tensor history_offsets)"
    " -> Tensor",
    _fake,
)


class TargetRank(NamedTuple):
    """Ranks from 0 (best) and the ties they include, int64 [B] each."""

    unmasked: Tensor
    """Items that score higher than the target, plus half the ties, rounded down."""
    unmasked_ties: Tensor
    """Other items that score exactly as the target."""
    masked: Tensor
    """As `unmasked`, among the items that are not in the row's history."""
    masked_ties: Tensor
    """As `unmasked_ties`, among the items that are not in the row's history."""


def target_rank(
    h: Tensor,
    item_embedding: Tensor,
    targets: Tensor,
    history: Tensor,
    history_offsets: Tensor,
    *,
    backend: str = "auto",
) -> TargetRank:
    """Rank each row's target among the items 1 .. V-1, by the dot product with the row.

    A score is one fixed sum over d in order (a fused multiply-add a step), whatever the batch, the
    thread count and the place in the table: items with equal embeddings tie exactly, and a row's
    rank does not depend on the rows around it.

    Args:
        h: Row vectors [B, D], float32 or float64.
        item_embedding: Item vectors [V, D], the same dtype. Row 0 is padding and is not ranked.
        targets: The item to rank for each row [B], int64, in 1 .. V-1.
        history: Items that leave the masked ranking [K], int32, in 0 .. V-1; row b's are
            `history[history_offsets[b]:history_offsets[b + 1]]`. Repeated items count once, 0 is
            ignored, and the target stays in the ranking even if it is listed.
        history_offsets: [B + 1], int64, ascending, within 0 .. K.
        backend: "auto", "torch" or "native".

    Returns:
        Ranks and ties, unmasked and masked, int64 [B] each.

    Raises:
        TypeError: Wrong dtypes.
        ValueError: Wrong shapes or devices, targets or history outside the table, offsets that do
            not ascend, or a score that is not finite (the message names the row).
        InputError: "native" is not available.
    """
    op = "target_rank"
    check_scoring(op, h, item_embedding)
    check_per_row(op, "targets", targets, len(h))
    check_item_lists(op, "history", history, history_offsets, len(h))
    check_same_device(
        op,
        h=h,
        item_embedding=item_embedding,
        targets=targets,
        history=history,
        history_offsets=history_offsets,
    )
    h, item_embedding = h.detach(), item_embedding.detach()
    if _native.backend(backend, h.device, op) == "native":
        ranks = torch.ops.mclrec_fast.target_rank(
            h, item_embedding, targets, history, history_offsets
        )
    else:
        check_target_values(op, targets, len(item_embedding))
        check_item_list_values(op, "history", history, history_offsets, len(item_embedding))
        ranks = _in_torch(h, item_embedding, targets, history, history_offsets)
    refuse_non_finite(op, ranks[0] < 0)
    return TargetRank(*ranks.unbind(0))
