"""Causal attention over packed sequences in plain torch.

Sequences of similar length are padded together, so little of the arithmetic is padding; the
kernels pad nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..philox import SITE_ATTENTION, dropout_mask, dropout_stream


class Bucket(NamedTuple):
    """Some sequences of a packed batch, padded to the longest of them (W tokens)."""

    rows: Tensor  # [R] which sequences, int64
    lengths: Tensor  # [R] their tokens, int64
    tokens: Tensor  # [R, W] packed index of each token; padding repeats the last one
    present: Tensor  # [R, W] bool, False on padding


def length_buckets(offsets: Tensor) -> Iterator[Bucket]:
    """Split a packed batch into buckets of at most 4, 8, 16, ... tokens."""
    offsets = offsets.to(torch.int64)
    lengths = offsets.diff()
    longest, low, high = int(lengths.max()) if len(lengths) else 0, 0, 4
    while low < longest:
        rows = ((lengths > low) & (lengths <= high)).nonzero()[:, 0]
        if len(rows):
            n = lengths[rows]
            column = torch.arange(int(n.max()), device=offsets.device)
            tokens = offsets[rows, None] + torch.minimum(column, n[:, None] - 1)
            yield Bucket(rows, n, tokens, column < n[:, None])
        low, high = high, 2 * high


def all_finite(x: Tensor) -> bool:
    """Whether every number of ``x`` is finite; also False where their sum overflows."""
    return bool(x.detach().sum().isfinite())


class _Probabilities(torch.autograd.Function):
    """`attention_probabilities`, which are all that its backward pass needs."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, allowed: Tensor) -> Tensor:
        lowest = torch.finfo(scores.dtype).min
        ctx.finite = all_finite(scores)
        if ctx.finite:
            p = scores.masked_fill(~allowed, lowest).softmax(-1).mul_(allowed)
        else:
            ends = scores.new_tensor([-torch.inf, lowest])
            other = torch.where(allowed.any(-1, keepdim=True), ends[0], ends[1])
            p = torch.where(allowed, torch.where(allowed, scores, other).softmax(-1), 0.0)
        ctx.save_for_backward(p, allowed)
        return p

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        p, allowed = ctx.saved_tensors
        if ctx.finite and all_finite(grad):  # what is not allowed has p = 0, and so no gradient
            return torch._softmax_backward_data(grad, p, -1, p.dtype), None
        grad = torch._softmax_backward_data(torch.where(allowed, grad, 0.0), p, -1, p.dtype)
        return torch.where(allowed, grad, 0.0), None


def attention_probabilities(scores: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the last dimension where ``allowed``; all zero where nothing is.

    NaN where all that is allowed is -infinity. What is not allowed counts for nothing, NaN or not.
    """
    probabilities: Tensor = _Probabilities.apply(scores, allowed)
    return probabilities


class _Dropout(torch.autograd.Function):
    """`apply_dropout` with a mask of bits; its backward pass is itself, of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(bits)
        ctx.p = p
        scaled = x * (x.new_ones(()) / (1.0 - p))
        return scaled.view(bits.dtype).bitwise_and_(bits).view(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (bits,) = ctx.saved_tensors
        return _Dropout.apply(grad, bits, ctx.p), None, None


def apply_dropout(x: Tensor, kept: Tensor, p: float) -> Tensor:
    """What is ``kept`` divided by 1 - p, and 0 elsewhere, whatever stood there.

    ``x`` is float32 or float64.
    """
    # Unlike a product, bits leave 0 of NaN; unlike `where`, which branches at every element, they
    # cost no more than the product.
    bits = kept.to(torch.int32 if x.dtype == torch.float32 else torch.int64).neg_()
    dropped: Tensor = _Dropout.apply(x, bits, p)
    return dropped


def attention_dropout(
    probabilities: Tensor,
    bucket: Bucket,
    query: Tensor,
    p: float,
    *,
    seed: int,
    update: int,
    layer: int,
    rows: Tensor | None = None,
) -> Tensor:
    """Drop attention probabilities [R, H, Q, W] of the queries at positions ``query`` [R, Q].

    The draws of a sequence are addressed by its entry of ``rows`` [S], or by its own row.
    """
    if p == 0.0:
        return probabilities
    heads, keys = probabilities.shape[1], probabilities.shape[3]
    n = bucket.lengths[:, None, None]  # [R, 1, 1]
    head = torch.arange(heads, device=n.device)[:, None]
    address = bucket.rows if rows is None else rows[bucket.rows]  # [R]
    first = (head * n + query[:, None, :]) * ((n + 31) // 32 * 32)  # [R, H, Q]
    kept = dropout_mask(
        p,
        first,
        keys,
        address[:, None, None].expand_as(first),
        alignment=32,
        seed=seed,
        stream=dropout_stream(layer, SITE_ATTENTION),
        update=update,
    )
    return apply_dropout(probabilities, kept, p)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    *,
    visible: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    update: int = 0,
    layer: int = 0,
    rows: Tensor | None = None,
) -> Tensor:
    """Causal attention within each sequence: [T, H, d] from queries, keys, values [T, H, d].

    A token is attended to by itself and its successors where it is ``visible``; a query without a
    visible key gets 0.
    """
    scale = query.shape[-1] ** -0.5
    finite = all(all_finite(x) for x in (query, key, value))
    parts, tokens = [], []
    for bucket in length_buckets(offsets):
        width = bucket.tokens.shape[1]
        q, k, v = (x[bucket.tokens].transpose(1, 2) for x in (query, key, value))  # [R, H, W, d]
        allowed = (
            bucket.present[:, None, :]
            & bucket.present[:, :, None]  # padding repeats a query
            & torch.ones(width, width, dtype=torch.bool, device=query.device).tril()
        )
        if visible is not None:
            allowed = allowed & visible[bucket.tokens][:, None, :]  # [R, W, W]
        if not finite:  # a product of matrices would multiply what nobody sees by 0
            q, k, v = _seen(q[:, :, :, None], allowed), _seen(k, allowed), _seen(v, allowed)
        scores = q @ k.transpose(-1, -2) if finite else (q * k).sum(-1)  # [R, H, W, W]
        p = attention_probabilities(scores * scale, allowed[:, None])
        position = torch.arange(width, device=query.device).expand(len(p), -1)
        p = attention_dropout(
            p, bucket, position, dropout, seed=seed, update=update, layer=layer, rows=rows
        )
        context = p @ v if finite else (p[..., None] * v).sum(-2)  # [R, H, W, d]
        parts.append(context.transpose(1, 2)[bucket.present])  # [tokens of the bucket, H, d]
        tokens.append(bucket.tokens[bucket.present])
    if not parts:
        return torch.zeros_like(query)
    return torch.zeros_like(query).index_copy(0, torch.cat(tokens), torch.cat(parts))


def _seen(x: Tensor, allowed: Tensor) -> Tensor:
    """[R, H, W, W, d]: of keys [R, H, W, d], or queries [R, H, W, 1, d], what each query sees."""
    return torch.where(allowed[:, None, ..., None], x if x.dim() == 5 else x[:, :, None], 0.0)
