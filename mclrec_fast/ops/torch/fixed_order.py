"""Scores whose bits do not depend on how they were batched.

A matrix product may sum in any order, so the score of one (row, item) pair can change in its last
bits with the batch size, the thread count or the position of the item in the table, and items with
equal embeddings may fail to tie. Here the score is *defined* as the sum over d = 0 .. D-1, in that
order, with one fused multiply-add a step. The matrix product only sorts out the pairs that cannot
be close; the few pairs within its error bound are scored by the definition.
"""

import torch
from torch import Tensor


def fused_multiply_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return a * b + c with a single rounding, as the FMA instruction does.

    float32 only. The product is exact in float64; the sum is rounded to odd there, which makes the
    final rounding to float32 correct (Boldo and Melquiond, "Emulation of a FMA and correctly
    rounded sums", 2008).

    Args:
        a: float32, any shape.
        b: float32, broadcastable with `a`.
        c: float32, broadcastable with `a * b`.

    Returns:
        float32, the broadcast shape.
    """
    product = a.double() * b.double()
    addend = c.double()
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(torch.int64)
    outward = (error > 0) == (total > 0)  # the exact sum lies beyond `total`, seen from zero
    inexact_even = (error != 0) & (bits & 1 == 0) & torch.isfinite(error)
    return (bits + torch.where(inexact_even, 2 * outward - 1, 0)).view(torch.float64).float()


def pair_scores(h: Tensor, item_embedding: Tensor, rows: Tensor, items: Tensor) -> Tensor:
    """Score (row, item) pairs by the definition.

    float64 inputs are summed in the same order, but with the product rounded before the sum.

    Args:
        h: Row vectors [B, D], float32 or float64.
        item_embedding: Item vectors [V, D], the same dtype.
        rows: Row of each pair, int64, any shape.
        items: Item of each pair, int64, the same shape.

    Returns:
        Scores, the shape of `rows`.
    """
    flat_rows, flat_items = rows.flatten(), items.flatten()
    turned = h.t().contiguous()
    pieces = [
        _chains(
            turned.index_select(1, flat_rows[part]),
            item_embedding.index_select(0, flat_items[part]).t().contiguous(),
        )
        for part in rows_in_chunks(len(flat_rows), h.shape[1], 1 << 19)
    ]
    return torch.cat(pieces).view(rows.shape) if pieces else h.new_zeros(rows.shape)


def _chains(left: Tensor, right: Tensor) -> Tensor:
    """Return the dot products [P] of the columns of two [D, P] matrices, summed in order."""
    # Products of float32 numbers are exact in float64, and a sum there that is rounded once more to
    # float32 is the fused multiply-add, unless it lies halfway between two float32 numbers: these
    # few are done again. Every operation is on numbers of one type, or torch's are slow.
    sums = left.double().mul_(right.double())  # [D, P], products at first
    sums[0] += 0.0  # a sum that starts at 0 is never -0
    if left.dtype == torch.float64:
        for d in range(1, len(sums)):
            sums[0] += sums[d]
        return sums[0]
    total = sums[0].float()
    for d in range(1, len(sums)):
        total = sums[d].add_(total.double()).float()
    again = _rounded_twice(left, right, sums)
    if again is not None:
        total[again] = _exact_chains(left[:, again], right[:, again])
    return total


def _rounded_twice(left: Tensor, right: Tensor, sums: Tensor) -> Tensor | None:
    """Which columns of [D, P] float64 sums may not be rounded to the nearest float32, or None.

    That needs a float64 sum halfway between two of them, where float64's own rounding decided.
    Where products are so small that such a place may lie below the normal numbers, all are suspect.
    """
    suspect = sums.view(torch.int64).bitwise_and_(0x1FFFFFFF) == 0x10000000
    # The factors' last bits multiply to at least 2^-148 here: what is smaller than normal is exact.
    smallest = [x.abs().amin().double() for x in (left, right)]
    if bool(smallest[0] * smallest[1] < 2.0**-100):
        size = (left.double() * right).abs()
        suspect |= (size < 2.0**-100) & (size != 0)
    return suspect.any(0).nonzero()[:, 0] if bool(suspect.any()) else None


def _exact_chains(left: Tensor, right: Tensor) -> Tensor:
    """The same as `_chains` for [D, P] float32, step by step."""
    total = left.new_zeros(left.shape[1])
    for a, b in zip(left, right, strict=True):
        total = fused_multiply_add(a, b, total)
    return total


def full_product(a: Tensor, b: Tensor) -> Tensor:
    """A @ b in full precision, although TF32 may be allowed elsewhere in the process."""
    switch = torch.backends.cuda.matmul
    if not (a.is_cuda and switch.allow_tf32):
        return a @ b
    switch.allow_tf32 = False
    try:
        return a @ b
    finally:
        switch.allow_tf32 = True


def score_bound(h: Tensor, item_embedding: Tensor) -> Tensor:
    """Bound |h| max |e| of the size of each row's scores; infinite where it cannot be computed.

    Args:
        h: Row vectors [B, D].
        item_embedding: Item vectors [V, D].

    Returns:
        [B], the dtype of `h`.
    """
    largest = item_embedding.norm(dim=1).max() if len(item_embedding) else h.new_zeros(())
    bound: Tensor = h.norm(dim=1) * largest
    return bound.nan_to_num(nan=torch.inf, posinf=torch.inf)


def comparison_slack(bound: Tensor, depth: int) -> Tensor:
    """How far apart two products must be for their order to be certain.

    Any order of summation errs by at most about D u sum_d |h_d e_d|, u the unit roundoff, and the
    sum is at most |h| |e|. Two scores, each in two orders: four such errors. (This holds for full
    precision products; reduced-precision modes of the matrix product are outside the bound.)

    Args:
        bound: `score_bound` of the rows [B].
        depth: D.

    Returns:
        Slack [B], positive.
    """
    info = torch.finfo(bound.dtype)
    return 4.1 * (depth + 2) * (info.eps / 2) * bound + info.tiny


def finite_rows(scores: Tensor, bound: Tensor) -> Tensor:
    """Whether all scores of each row are finite; they are looked at only where no bound says so.

    Args:
        scores: [n, V].
        bound: `score_bound` of the rows [n].

    Returns:
        bool [n].
    """
    if bool((bound < torch.finfo(bound.dtype).max / 2).all()):
        return torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    return torch.isfinite(scores).all(dim=1)


def rows_in_chunks(batch: int, classes: int, elements: int = 1 << 20) -> list[slice]:
    """Cut `batch` rows into slices whose [rows, classes] matrix has at most `elements` elements."""
    step = max(1, elements // max(1, classes))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]
