"""Useful arithmetic in GFLOP, counted alike for every backend of a case.

A multiply-add is two; what the mathematics needs, nothing that an implementation adds.
"""

from torch import Tensor


def item_cross_entropy(B: int, V: int, D: int, *, backward: bool) -> float:
    """One product forward, two backward."""
    return 2e-9 * B * V * D * (3 if backward else 1)


def contrast(B: int, D: int, *, backward: bool) -> float:
    """Four symmetric blocks (half each) and three full ones; twice that backward."""
    return 10e-9 * B * B * D * (3 if backward else 1)


def info_nce(B: int, D: int, *, backward: bool) -> float:
    """The 2 B^2 distinct pairs of 2B rows; recomputed once and two products backward."""
    return 4e-9 * B * B * D * (4 if backward else 1)


def encode(
    lengths: Tensor, D: int, inner: int, layers: int, heads: int, *, backward: bool
) -> float:
    """Full layers for every token, the last one for the last token with absorbed projections."""
    n = lengths.double()
    tokens, pairs, sequences = float(n.sum()), float((n * (n + 1) / 2).sum()), len(lengths)
    full = tokens * (8 * D * D + 4 * D * inner) + 4 * pairs * D
    # Query, absorbed query, value of the mixture, output: D^2 each; scores and mixture per head.
    last = sequences * (8 * D * D + 4 * D * inner) + 4 * tokens * D * heads
    return 1e-9 * ((layers - 1) * full + last) * (3 if backward else 1)


def packed_attention(lengths: Tensor, D: int, *, backward: bool) -> float:
    """Scores and mixture of every visible pair; backward two and a half times that."""
    n = lengths.double()
    return 1e-9 * 4 * D * float((n * (n + 1) / 2).sum()) * (3.5 if backward else 1)


def ranking(B: int, V: int, D: int) -> float:
    """Every score once."""
    return 2e-9 * B * V * D


def augmenters(B: int, D: int, *, backward: bool) -> float:
    """The two MLPs D -> D/2 -> D/4 -> D on B rows each."""
    return 2e-9 * B * 1.75 * D * D * (3 if backward else 1)


def official_batch(lengths: Tensor, V: int, D: int, *, layers: int = 2, heads: int = 2) -> float:
    """Three updates of one batch.

    The encoder's two (forward and backward of 3B sequences, softmax, contrast), and the
    augmenters' one between them (forward of the 2B views; gradients of the learned views only).

    Args:
        lengths: tokens of the 3B sequences: histories, first views, second views.
        V: item classes.
        D: hidden size; the inner size is 4 D.
        layers: transformer layers.
        heads: attention heads.
    """
    B, inner = len(lengths) // 3, 4 * D
    views = encode(lengths[B:], D, inner, layers, heads, backward=False)
    learned = contrast(B, D, backward=False) + 12e-9 * B * B * D + augmenters(B, D, backward=True)
    encoder = encode(lengths, D, inner, layers, heads, backward=True)
    encoder += item_cross_entropy(B, V, D, backward=True)
    encoder += contrast(B, D, backward=True) + augmenters(B, D, backward=True)
    return 2 * encoder + views + learned
