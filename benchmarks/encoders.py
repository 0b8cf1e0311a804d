"""The encoder before its exact savings, one step at a time, for the table of `progress`.

All compute the same representation, with the same dropout draws, as `ops.encode`; they differ in
how much they compute for it. Padded to L tokens; packed; packed with the last layer's query for the
last token only. (The next step, keys and values absorbed into that query, is the torch path
itself; the last, one fused kernel, is the native one.)
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear

from mclrec_fast.ops import PackedSequences
from mclrec_fast.ops.philox import (
    SITE_ATTENTION_OUTPUT,
    SITE_EMBEDDING,
    SITE_FEED_FORWARD,
    dropout_mask,
    dropout_stream,
)
from mclrec_fast.ops.torch.packed_attention import (
    attention_dropout,
    attention_probabilities,
    length_buckets,
    packed_attention,
)


class TokenDropout:
    """Dropout of token vectors, the draws of `ops.encode`."""

    def __init__(self, p: float, offsets: Tensor, hidden: int, seed: int, update: int) -> None:
        counts = offsets.diff().long()
        self.p, self.hidden, self.seed, self.update = p, hidden, seed, update
        self.sequence = torch.repeat_interleave(torch.arange(len(counts)), counts)  # [T]
        self.place = torch.arange(len(self.sequence)) - offsets.long()[self.sequence]  # [T]

    def __call__(self, x: Tensor, layer: int, site: int, rows: Tensor | None = None) -> Tensor:
        """Drop elements of x [K, D]: all tokens, or those named by `rows` [K]."""
        if self.p == 0.0:
            return x
        place = self.place if rows is None else self.place[rows]
        kept = dropout_mask(
            self.p,
            place * self.hidden,
            self.hidden,
            self.sequence if rows is None else self.sequence[rows],
            alignment=self.hidden,
            seed=self.seed,
            stream=dropout_stream(layer, site),
            update=self.update,
        )
        return x * (kept.to(x.dtype) / (1.0 - self.p))


def pad(packed: PackedSequences, length: int) -> PackedSequences:
    """Every sequence with `length` tokens, padded behind with item 0, which is never a key."""
    counts = packed.offsets.diff().long()
    rows = len(counts)
    row = torch.repeat_interleave(torch.arange(rows), counts)
    total = int(packed.offsets[-1])
    place = torch.arange(total) - packed.offsets.long()[row]
    items = torch.zeros(rows, length, dtype=torch.int32)
    positions = torch.zeros(rows, length, dtype=torch.int32)
    items[row, place] = packed.items[:total]
    positions[row, place] = packed.positions[:total]
    offsets = torch.arange(rows + 1, dtype=torch.int32) * length
    return PackedSequences(items.flatten(), positions.flatten(), offsets)


def encode(
    packed: PackedSequences,
    weights: Sequence[Tensor],
    *,
    heads: int,
    hidden_dropout: float,
    attention_dropout: float,
    eps: float,
    seed: int,
    update: int,
    padded_to: int | None = None,
    last_token_only: bool = False,
) -> Tensor:
    """Representations [S, D], as `ops.encode`, computing more than that needs.

    Args:
        packed: S sequences.
        weights: as `ops.encode` takes them.
        heads: attention heads.
        hidden_dropout: dropout of token vectors.
        attention_dropout: dropout of attention probabilities.
        eps: of the layer norms.
        seed: key of the dropout draws.
        update: number of the update.
        padded_to: pad every sequence to so many tokens first.
        last_token_only: compute only the last token in the last layer (keys and values for all).
    """
    last = packed.offsets[1:].long() - 1  # [S]
    if padded_to is not None:
        last = packed.offsets.diff().long() - 1 + padded_to * torch.arange(len(last))
        packed = pad(packed, padded_to)
    item_embedding, position_embedding, norm, norm_bias, *rest = weights
    hidden, offsets = item_embedding.shape[1], packed.offsets
    total = int(offsets[-1])
    items = packed.items[:total]
    drop = TokenDropout(hidden_dropout, offsets, hidden, seed, update)
    x = embedding(items, item_embedding, padding_idx=0)
    x = x + embedding(packed.positions[:total], position_embedding)
    x = drop(layer_norm(x, (hidden,), norm, norm_bias, eps), 0, SITE_EMBEDDING)
    options = {"seed": seed, "update": update}
    for layer in range(len(rest) // 16):
        wq, bq, wk, bk, wv, bv, *after = rest[16 * layer : 16 * layer + 16]
        shape = (total, heads, hidden // heads)
        k, v = linear(x, wk, bk).view(shape), linear(x, wv, bv).view(shape)
        rows = last if last_token_only and layer == len(rest) // 16 - 1 else None
        if rows is None:
            q = linear(x, wq, bq).view(shape)
            context = packed_attention(
                q,
                k,
                v,
                offsets,
                visible=items != 0,
                dropout=attention_dropout,
                layer=layer,
                **options,
            ).flatten(1)
        else:
            q = linear(x[rows], wq, bq).view(-1, *shape[1:])
            context = _last_query(
                q, k, v, offsets, items != 0, attention_dropout, layer=layer, **options
            )
            x = x[rows]
        x = _after_attention(x, context, after, eps, drop, layer, rows)
    return x if last_token_only else x[last]


def _last_query(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    visible: Tensor,
    dropout: float,
    *,
    layer: int,
    seed: int,
    update: int,
) -> Tensor:
    """Attention of one query per sequence, q [S, H, d] on k, v [T, H, d] -> [S, D]."""
    out = torch.zeros_like(q)
    for bucket in length_buckets(offsets):
        keys, values = k[bucket.tokens], v[bucket.tokens]  # [R, W, H, d]
        scores = torch.einsum("rhd,rwhd->rhw", q[bucket.rows], keys) * q.shape[2] ** -0.5
        allowed = (bucket.present & visible[bucket.tokens])[:, None]
        p = attention_probabilities(scores, allowed)[:, :, None]  # [R, H, 1, W]
        query = bucket.lengths[:, None] - 1
        p = attention_dropout(p, bucket, query, dropout, seed=seed, update=update, layer=layer)
        mixed = torch.einsum("rhw,rwhd->rhd", p[:, :, 0], values)
        out = out.index_copy(0, bucket.rows, mixed)
    return out.flatten(1)


def _after_attention(
    x: Tensor,
    context: Tensor,
    weights: Sequence[Tensor],
    eps: float,
    drop: TokenDropout,
    layer: int,
    rows: Tensor | None,
) -> Tensor:
    wo, bo, norm1, norm1_bias, w1, b1, w2, b2, norm2, norm2_bias = weights
    hidden = (x.shape[1],)
    y = drop(linear(context, wo, bo), layer, SITE_ATTENTION_OUTPUT, rows)
    x = layer_norm(x + y, hidden, norm1, norm1_bias, eps)
    y = drop(linear(gelu(linear(x, w1, b1)), w2, b2), layer, SITE_FEED_FORWARD, rows)
    return layer_norm(x + y, hidden, norm2, norm2_bias, eps)
