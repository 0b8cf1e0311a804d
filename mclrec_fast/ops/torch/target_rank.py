"""Full ranking of one target per row, in plain torch, a chunk of rows at a time.

Defines what the native kernel computes; not differentiable (a rank has no gradient).
Source: the protocol of sequential recommendation with ties counted (see ops/target_rank.py).
"""

import torch
from torch import Tensor

from .fixed_order import (
    comparison_slack,
    finite_rows,
    full_product,
    pair_scores,
    rows_in_chunks,
    score_bound,
)


def target_rank(
    h: Tensor, item_embedding: Tensor, targets: Tensor, history: Tensor, history_offsets: Tensor
) -> Tensor:
    """Rank each row's target among the items 1 .. V-1.

    Args:
        h: Row vectors [B, D], float32 or float64.
        item_embedding: Item vectors [V, D], the same dtype; row 0 (padding) is not ranked.
        targets: Target items [B], int64, in 1 .. V-1.
        history: Items that leave the masked ranking [K], int32; row b's are
            `history[history_offsets[b]:history_offsets[b + 1]]`. 0 is ignored.
        history_offsets: [B + 1], int64, ascending.

    Returns:
        int64 [4, B]: rank and ties in the whole catalogue, rank and ties without the history. A row
        with a non-finite score is -1 throughout.
    """
    B, V = len(h), len(item_embedding)
    bound = score_bound(h, item_embedding[1:])  # [B]
    slack = comparison_slack(bound, h.shape[1])  # [B]
    every = torch.arange(B, device=h.device)
    exact_target = pair_scores(h, item_embedding, every, targets)  # [B]
    transposed = item_embedding.t()
    counts = torch.zeros((4, B), dtype=torch.int64, device=h.device)  # higher, ties; masked
    finite = torch.empty(B, dtype=torch.bool, device=h.device)
    close: list[tuple[Tensor, Tensor, Tensor]] = []  # (row, item, 1 or 2 = in the history)

    def settle() -> None:
        row, item, mark = (torch.cat(part) for part in zip(*close, strict=True))
        close.clear()
        exact, target = pair_scores(h, item_embedding, row, item), exact_target[row]
        for line, hit in enumerate((exact > target, exact == target)):
            counts[line].add_(torch.bincount(row[hit], minlength=B))
            counts[line + 2].add_(torch.bincount(row[hit & (mark == 1)], minlength=B))

    for chunk in rows_in_chunks(B, V):
        local = every[: chunk.stop - chunk.start]
        seen_row, seen = _pairs(history, history_offsets[chunk.start : chunk.stop + 1])
        margin = slack[chunk].unsqueeze(1)  # [n, 1]
        difference = full_product(h[chunk], transposed)  # [n, V], less the target's below
        finite[chunk] = finite_rows(difference[:, 1:], bound[chunk])
        difference -= difference[local, targets[chunk]].unsqueeze(1)
        difference[:, 0] = -torch.inf
        near = (difference.abs() <= margin).to(torch.uint8)
        near[local, targets[chunk]] = 0
        near[seen_row, seen] *= 2
        found = _nonzero(near.view(-1))
        row, item = found // V, found % V
        close.append((row + chunk.start, item, near[row, item]))
        # The rest is certain. Sums of zeros and ones: exact in float32 below 2^24 items.
        certain = difference.gt_(margin)
        counts[0, chunk] += certain.sum(1).long()
        certain[seen_row, seen] = 0
        counts[2, chunk] += certain.sum(1).long()
        if sum(len(part[0]) for part in close) > 1 << 18:
            settle()
    if close:
        settle()
    counts[0::2] += counts[1::2] // 2
    return torch.where(finite, counts, -1)


def _nonzero(flags: Tensor) -> Tensor:
    """Indices of the few bytes of a long uint8 vector that are not zero, eight looked at a time."""
    whole = len(flags) // 8 * 8
    words = flags[:whole].view(torch.int64).nonzero()  # [W, 1]
    byte = torch.arange(8, device=flags.device)
    rest = torch.arange(whole, len(flags), device=flags.device)
    candidates = torch.cat(((8 * words + byte).flatten(), rest))
    return candidates[flags[candidates] != 0]


def _pairs(items: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return (row, item), int64, of lists whose offsets are `offsets` [n + 1]."""
    rows = torch.arange(len(offsets) - 1, device=items.device)
    first, last = int(offsets[0]), int(offsets[-1])
    return torch.repeat_interleave(rows, offsets.diff()), items[first:last].long()
