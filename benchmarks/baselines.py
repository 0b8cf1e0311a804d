"""The plain PyTorch that the kernels are compared with: what a good engineer would write.

Vectorised, padded only to the longest sequence of the batch, torch's own fused functions where they
exist. Not this package's torch path (that is the backend "reference", which also draws the same
dropout bits as the kernels).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def compiled(function: Callable[..., Any], *, tiny: bool) -> Callable[..., Any]:
    """The function under torch.compile; at tiny size without code generation, which takes long."""
    return torch.compile(function, dynamic=False, backend="aot_eager" if tiny else "inductor")


def item_cross_entropy(h: Tensor, item_embedding: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of h [B, D] against all items [V, D]."""
    return functional.cross_entropy(functional.linear(h, item_embedding), targets)


def _pair(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Similarities [N, N] of the rows of [a; b], the diagonal out, and each row's positive [N]."""
    z = torch.cat((a, b))
    s = z @ z.T / temperature
    s = s.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return s, torch.arange(len(z), device=z.device).roll(len(a))


def info_nce(a: Tensor, b: Tensor, temperature: float = 1.0) -> Tensor:
    """InfoNCE of two views [B, D], dot products."""
    return functional.cross_entropy(*_pair(a, b, temperature))


def _contrast_and_regulariser(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    s, positives = _pair(a, b, 1.0)
    n = len(s)
    p = s.gather(1, positives[:, None])  # [N, 1]
    negatives = s.scatter(1, positives[:, None], -torch.inf)
    m = negatives.max(1, keepdim=True).values  # [N, 1]
    hinge = torch.maximum(p, m) - negatives  # [N, N], infinite where there is no negative
    spread = hinge.relu().masked_fill(hinge.isinf(), 0.0).sum() / (n * (n - 2))
    return functional.cross_entropy(s, positives), (p - m).relu().mean() + spread


def contrast(h1: Tensor, h2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """L_cl2 + 0.1 R of four views [B, D], lambda = 0."""
    parts = [_contrast_and_regulariser(a, b) for a, b in ((z1, z2), (h1, z2), (h2, z1))]
    return sum((con + 0.1 * r for con, r in parts), h1.new_zeros(()))


def padded(items: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Packed items as [S, W] padded on the right with 0, and the lengths [S]."""
    lengths = offsets.diff().long()
    width = int(lengths.max())
    column = torch.arange(width, device=items.device)
    index = offsets[:-1, None].long() + torch.minimum(column, lengths[:, None] - 1)
    return torch.where(column < lengths[:, None], items[index].long(), 0), lengths


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Causal attention over a padded batch, q, k, v [S, H, W, d].

    Padding lies behind every real token, so the causal mask hides it.
    """
    return functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)


def encode(
    items: Tensor, lengths: Tensor, weights: Sequence[Tensor], heads: int, dropout: float
) -> Tensor:
    """SASRec over a padded batch [S, W] -> [S, D]: every layer for every token."""
    item_embedding, position_embedding, norm, norm_bias, *rest = weights
    rows, width = items.shape
    hidden = item_embedding.shape[1]

    def heads_of(x: Tensor) -> Tensor:
        return x.view(rows, width, heads, -1).transpose(1, 2)

    x = functional.embedding(items, item_embedding, padding_idx=0) + position_embedding[:width]
    x = functional.layer_norm(x, (hidden,), norm, norm_bias)
    x = functional.dropout(x, dropout)
    for i in range(0, len(rest), 16):
        wq, bq, wk, bk, wv, bv, wo, bo, n1, n1b, w1, b1, w2, b2, n2, n2b = rest[i : i + 16]
        context = causal_attention(
            heads_of(functional.linear(x, wq, bq)),
            heads_of(functional.linear(x, wk, bk)),
            heads_of(functional.linear(x, wv, bv)),
            dropout,
        )
        y = functional.linear(context.transpose(1, 2).reshape(rows, width, hidden), wo, bo)
        x = functional.layer_norm(x + functional.dropout(y, dropout), (hidden,), n1, n1b)
        y = functional.linear(functional.gelu(functional.linear(x, w1, b1)), w2, b2)
        x = functional.layer_norm(x + functional.dropout(y, dropout), (hidden,), n2, n2b)
    return x[torch.arange(rows, device=x.device), lengths - 1]


def target_rank(
    h: Tensor, item_embedding: Tensor, targets: Tensor, history: Tensor, history_offsets: Tensor
) -> Tensor:
    """Unmasked and masked ranks [2, B], ties not counted, 256 rows at a time."""
    out = torch.empty((2, len(h)), dtype=torch.int64, device=h.device)
    for start in range(0, len(h), 256):
        rows = slice(start, start + 256)
        scores = h[rows] @ item_embedding.T  # [256, V]
        higher = scores > scores.gather(1, targets[rows, None])
        higher[:, 0] = False
        out[0, rows] = higher.sum(1)
        row, seen = _history(history, history_offsets, start, len(scores))
        higher[row, seen] = False
        out[1, rows] = higher.sum(1)
    return out


def top_k(
    h: Tensor, item_embedding: Tensor, k: int, exclude: Tensor, exclude_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """The k best items of each row, 256 rows at a time."""
    parts = []
    for start in range(0, len(h), 256):
        scores = h[start : start + 256] @ item_embedding.T  # [256, V]
        scores[:, 0] = -torch.inf
        scores[_history(exclude, exclude_offsets, start, len(scores))] = -torch.inf
        parts.append(scores.topk(k))
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _history(items: Tensor, offsets: Tensor, start: int, rows: int) -> tuple[Tensor, Tensor]:
    bounds = offsets[start : start + rows + 1]
    row = torch.repeat_interleave(torch.arange(rows, device=items.device), bounds.diff())
    return row, items[int(bounds[0]) : int(bounds[-1])].long()
