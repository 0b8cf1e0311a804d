"""The sequence encoder in plain torch: SASRec's post-norm blocks over packed tokens.

Kang & McAuley 2018 as RecBole writes it. Three exact savings shape it: there is no padding, the
last layer computes the last token of each sequence only, and there the key and value projections
are absorbed into that single query.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear

from ..encode_weights import LayerWeights, split_weights
from ..packed import PackedSequences
from ..philox import (
    SITE_ATTENTION_OUTPUT,
    SITE_EMBEDDING,
    SITE_FEED_FORWARD,
    dropout_mask,
    dropout_stream,
)
from .packed_attention import (
    apply_dropout,
    attention_dropout,
    attention_probabilities,
    length_buckets,
    packed_attention,
)


class _Hyper(NamedTuple):
    """What an encoding depends on besides tokens and weights."""

    heads: int
    hidden_dropout: float
    attention_dropout: float
    eps: float
    seed: int
    update: int
    rows: Tensor  # [S] what the draws of each sequence are addressed by


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
    rows: Tensor | None = None,
) -> Tensor:
    """The representation of each sequence, [S, D]: the encoder's output at its last token."""
    offsets = packed.offsets.to(torch.int64)
    own = torch.arange(len(offsets) - 1, device=offsets.device) if rows is None else rows.long()
    hyper = _Hyper(heads, hidden_dropout, attention_dropout, eps, seed, update, own)
    total = int(offsets[-1])
    items, positions = packed.items[:total], packed.positions[:total]
    embeddings, layers = split_weights(weights)

    # Row 0 is a class of the softmax, but as a token it has no gradient.
    tokens = embedding(items, embeddings.item_embedding, padding_idx=0)
    x = tokens + embedding(positions, embeddings.position_embedding)  # [T, D]
    x = layer_norm(x, x.shape[1:], embeddings.embedding_norm, embeddings.embedding_norm_bias, eps)
    sequence = torch.repeat_interleave(
        torch.arange(len(offsets) - 1).to(items.device), offsets.diff()
    )
    place = torch.arange(total, device=items.device) - offsets[sequence]  # token within sequence
    x = _hidden_dropout(x, sequence, place, 0, SITE_EMBEDDING, hyper)
    visible = items != 0

    for number, layer in enumerate(layers[:-1]):
        shape = (total, heads, x.shape[1] // heads)
        context = packed_attention(
            linear(x, layer.query, layer.query_bias).view(shape),
            linear(x, layer.key, layer.key_bias).view(shape),
            linear(x, layer.value, layer.value_bias).view(shape),
            offsets,
            visible=visible,
            dropout=attention_dropout,
            seed=seed,
            update=update,
            layer=number,
            rows=own,
        )
        x = _after_attention(x, context.flatten(1), layer, sequence, place, number, hyper)

    last = offsets[1:] - 1
    context = _last_token_context(x, visible, offsets, layers[-1], len(layers) - 1, hyper)
    return _after_attention(
        x[last],
        context,
        layers[-1],
        sequence[last],
        place[last],
        len(layers) - 1,
        hyper,
    )


def _last_token_context(
    x: Tensor,
    visible: Tensor,
    offsets: Tensor,
    layer: LayerWeights,
    number: int,
    hyper: _Hyper,
) -> Tensor:
    """Attention of each sequence's last token, [S, D], without keys or values.

    With q_h the query of head h: q_h . (W_k,h x_j + b_k,h) = (W_k,h^T q_h) . x_j + q_h . b_k,h, and
    sum_j p_j (W_v,h x_j + b_v,h) = W_v,h (sum_j p_j x_j) + b_v,h sum_j p_j.
    """
    hidden = x.shape[1]
    size = hidden // hyper.heads
    query = linear(x[offsets[1:] - 1], layer.query, layer.query_bias).view(-1, hyper.heads, size)
    key, value = (
        layer.key.view(hyper.heads, size, hidden),
        layer.value.view(hyper.heads, size, hidden),
    )
    absorbed = torch.einsum("shd,hdc->shc", query, key)  # [S, H, D]
    constant = (query * layer.key_bias.view(hyper.heads, size)).sum(-1)  # [S, H]
    parts, rows = [], []
    for bucket in length_buckets(offsets):
        allowed = bucket.present & visible[bucket.tokens]  # [R, W]
        keys = torch.where(allowed[..., None], x[bucket.tokens], 0.0)  # [R, W, D]
        scores = absorbed[bucket.rows] @ keys.transpose(1, 2) + constant[bucket.rows][..., None]
        p = attention_probabilities(scores * size**-0.5, allowed[:, None])  # [R, H, W]
        p = attention_dropout(
            p[:, :, None],
            bucket,
            bucket.lengths[:, None] - 1,
            hyper.attention_dropout,
            seed=hyper.seed,
            update=hyper.update,
            layer=number,
            rows=hyper.rows,
        )[:, :, 0]
        mixed = torch.einsum("rhc,hdc->rhd", p @ keys, value)
        mixed = mixed + p.sum(-1, keepdim=True) * layer.value_bias.view(hyper.heads, size)
        parts.append(mixed.flatten(1))  # [R, D]
        rows.append(bucket.rows)
    if not parts:
        return x.new_zeros(0, hidden)
    return torch.cat(parts)[torch.cat(rows).argsort()]


def _after_attention(
    x: Tensor,
    context: Tensor,
    layer: LayerWeights,
    sequence: Tensor,
    place: Tensor,
    number: int,
    hyper: _Hyper,
) -> Tensor:
    """Output projection, residual, norm, feed-forward, residual, norm: [K, D] -> [K, D]."""
    y = linear(context, layer.output, layer.output_bias)
    y = _hidden_dropout(y, sequence, place, number, SITE_ATTENTION_OUTPUT, hyper)
    x = layer_norm(x + y, x.shape[1:], layer.attention_norm, layer.attention_norm_bias, hyper.eps)
    y = linear(gelu(linear(x, layer.inner, layer.inner_bias)), layer.outer, layer.outer_bias)
    y = _hidden_dropout(y, sequence, place, number, SITE_FEED_FORWARD, hyper)
    return layer_norm(
        x + y,
        x.shape[1:],
        layer.feed_forward_norm,
        layer.feed_forward_norm_bias,
        hyper.eps,
    )


def _hidden_dropout(
    x: Tensor, sequence: Tensor, place: Tensor, number: int, site: int, hyper: _Hyper
) -> Tensor:
    """Dropout of token vectors [K, D]; ``place`` is each token's index within its sequence."""
    if hyper.hidden_dropout == 0.0:
        return x
    hidden = x.shape[1]
    kept = dropout_mask(
        hyper.hidden_dropout,
        place * hidden,
        hidden,
        hyper.rows[sequence],
        alignment=hidden,
        seed=hyper.seed,
        stream=dropout_stream(number, site),
        update=hyper.update,
    )
    return apply_dropout(x, kept, hyper.hidden_dropout)
