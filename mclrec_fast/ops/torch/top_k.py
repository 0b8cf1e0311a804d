"""The k best items of each row, in plain torch, a chunk of rows at a time.

Defines what the native kernel computes; not differentiable.
"""

import math

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

_CHUNK = 1 << 22
"""Scores in memory at a time."""


def top_k(
    h: Tensor, item_embedding: Tensor, k: int, exclude: Tensor, exclude_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the k highest scores of each row over the items 1 .. V-1, and their items.

    Args:
        h: Row vectors [B, D], float32 or float64.
        item_embedding: Item vectors [V, D], the same dtype; row 0 (padding) is never returned.
        k: Number of items, >= 0.
        exclude: Items that must not be returned [K], int32; row b's are
            `exclude[exclude_offsets[b]:exclude_offsets[b + 1]]`.
        exclude_offsets: [B + 1], int64, ascending.

    Returns:
        Scores [B, k], the dtype of `h`, descending, ties by lower item; items [B, k], int64. Where
        fewer than k items are left: score -inf, item 0. A row with a non-finite score has item -1.
    """
    B, V = len(h), len(item_embedding)
    best = h.new_full((B, k), -torch.inf)
    best_items = torch.zeros((B, k), dtype=torch.int64, device=h.device)
    bound = score_bound(h, item_embedding[1:])  # [B]
    slack = comparison_slack(bound, h.shape[1])  # [B]
    transposed = item_embedding.t()
    kept = min(k, V)
    chunks = rows_in_chunks(B, V, _CHUNK) if kept else []
    candidates = []  # scores and items of each chunk
    finite = torch.ones(B, dtype=torch.bool, device=h.device)
    for chunk in chunks:
        rows = torch.arange(chunk.stop - chunk.start, device=h.device)
        offsets = exclude_offsets[chunk.start : chunk.stop + 1]
        removed = exclude[int(offsets[0]) : int(offsets[-1])].long()
        scores = full_product(h[chunk], transposed)  # [n, V]
        finite[chunk] = finite_rows(scores[:, 1:], bound[chunk])
        scores[:, 0] = -torch.inf
        scores[torch.repeat_interleave(rows, offsets.diff()), removed] = -torch.inf
        if not bool(finite[chunk].all()):
            scores[~finite[chunk]] = -torch.inf
        candidates.append(_candidates(scores, kept, slack[chunk].unsqueeze(1)))
        del scores  # or there would be two of them

    # Every item that can be among the k best by the exact score, now in exact order.
    for chunk, (rough, items), exact in zip(
        chunks, candidates, _exact(h, item_embedding, chunks, candidates), strict=True
    ):
        exact = torch.where(rough == -torch.inf, rough, exact)
        below = (exact[:, 1:] < exact[:, :-1]) | (exact[:, 1:] == -torch.inf)
        if not bool(below.all()):  # as good as never: rough order is exact order
            exact, items = _in_order(exact, items)
        ordered, items = exact[:, :kept], items[:, :kept]
        best[chunk, :kept] = ordered
        items = torch.where(ordered == -torch.inf, 0, items)
        best_items[chunk, :kept] = torch.where(finite[chunk].unsqueeze(1), items, -1)
    return best, best_items


def top_k_of_candidates(
    h: Tensor,
    item_embedding: Tensor,
    k: int,
    exclude: Tensor,
    exclude_offsets: Tensor,
    candidates: Tensor,
) -> tuple[Tensor, Tensor]:
    """The same among some items only, int32 [A], ascending: by a table of their vectors alone."""
    ids = torch.cat((candidates.new_zeros(1), candidates)).long()  # [A + 1]
    number = torch.zeros(len(item_embedding), dtype=torch.int32, device=h.device)
    number[ids[1:]] = torch.arange(1, len(ids), dtype=torch.int32, device=h.device)
    scores, best = top_k(h, item_embedding[ids], k, number[exclude.long()], exclude_offsets)
    return scores, torch.where(best < 0, best, ids[best.clamp_min(0)])


def _exact(
    h: Tensor,
    item_embedding: Tensor,
    chunks: list[slice],
    candidates: list[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """The exact scores of every chunk's candidates, all computed together: few large operations."""
    if not chunks:
        return []
    rows = [
        torch.arange(chunk.start, chunk.stop, device=h.device).repeat_interleave(items.shape[1])
        for chunk, (_, items) in zip(chunks, candidates, strict=True)
    ]
    items = [items.flatten() for _, items in candidates]
    exact = pair_scores(h, item_embedding, torch.cat(rows), torch.cat(items))
    parts = exact.split([len(part) for part in items])
    return [part.view_as(rough) for part, (rough, _) in zip(parts, candidates, strict=True)]


def _in_order(scores: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [n, k], descending, and their items: of equal scores the lowest item first."""
    items, order = items.sort(dim=1)
    scores, again = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores, items.gather(1, again)


def _candidates(scores: Tensor, k: int, slack: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores and items [n, at least k], by descending score, of all that may be among them.

    Args:
        scores: [n, V].
        k: 1 .. V.
        slack: [n, 1]; a score that far below the k-th highest cannot be in the top k.
    """
    taken = min(k + 2, scores.shape[1])
    while True:
        values, items = _highest(scores, taken)
        possible = int((values >= values[:, k - 1 : k] - slack).sum(1).max())  # they come first
        if taken == scores.shape[1] or possible < taken:
            break
        taken = min(4 * taken, scores.shape[1])
    needed = max(possible, k)
    return values[:, :needed], items[:, :needed]


def _highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same as `scores.topk(k)`, but for the order of equal scores.

    The k highest lie in the k groups of items with the highest maxima; taking maxima is quick.
    """
    V = scores.shape[1]
    size = math.isqrt(V // k)
    if size < 4:
        return scores.topk(k)
    groups = V // size  # group g: items g, g + groups, g + 2 groups, ...
    grouped = scores[:, : size * groups].unflatten(1, (size, groups))
    chosen = grouped.amax(1).topk(k, sorted=False).indices  # [n, k]
    steps = groups * torch.arange(size, device=scores.device)
    items = (chosen.unsqueeze(1) + steps.unsqueeze(1)).flatten(1)  # [n, size k]
    rest = torch.arange(size * groups, V, device=scores.device).expand(len(scores), -1)
    items = torch.cat((items, rest), 1)
    values, place = scores.gather(1, items).topk(k)
    return values, items.gather(1, place)
