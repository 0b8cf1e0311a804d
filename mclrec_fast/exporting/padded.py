"""The models over padded histories, in torch that can be traced: what `torch.export` and ONNX see.

For answering alone: no dropout, no packing, no kernels. The arithmetic is that of
ops/torch/encode.py and of GRU4Rec, padded behind the last item.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from ..errors import InputError
from ..models.base import Model
from ..models.encoder import EncoderModel
from ..models.gru4rec import GRU4Rec
from ..ops.encode_weights import split_weights


class PaddedEncoder(nn.Module):
    """SASRec's encoder: rows of items [B, L], 0 behind the last, to representations [B, D]."""

    def __init__(self, model: EncoderModel) -> None:
        """With copies of the model's weights."""
        super().__init__()
        options = model.options
        self.heads, self.eps = options.heads, options.layer_norm_eps
        self.weights = _copies(model.encoder.weights())

    def forward(self, items: Tensor) -> Tensor:
        """See the class."""
        own, layers = split_weights(list(self.weights))
        eps = self.eps
        length = items.shape[1]
        x = own.item_embedding[items] + own.position_embedding[:length]  # [B, L, D]
        shape = x.shape[-1:]
        x = layer_norm(x, shape, own.embedding_norm, own.embedding_norm_bias, eps)
        place = torch.arange(length)
        causal = place[:, None] >= place[None, :]  # [L, L]
        allowed = causal[None, None] & (items != 0)[:, None, None, :]  # [B, 1, L, L]
        for layer in layers:
            query, key, value = (
                linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for weight, bias in (
                    (layer.query, layer.query_bias),
                    (layer.key, layer.key_bias),
                    (layer.value, layer.value_bias),
                )
            )  # [B, H, L, D / H]
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            p = scores.masked_fill(~allowed, torch.finfo(x.dtype).min).softmax(-1)
            context = (p @ value).transpose(1, 2).flatten(2)  # [B, L, D]
            y = linear(context, layer.output, layer.output_bias)
            x = layer_norm(x + y, shape, layer.attention_norm, layer.attention_norm_bias, eps)
            y = linear(gelu(linear(x, layer.inner, layer.inner_bias)), layer.outer)
            x = x + y + layer.outer_bias
            x = layer_norm(x, shape, layer.feed_forward_norm, layer.feed_forward_norm_bias, eps)
        last = ((items != 0).sum(1) - 1).clamp_min(0)  # [B]
        return x.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


class PaddedGRU(nn.Module):
    """GRU4Rec: rows of items [B, L], 0 behind the last, to representations [B, D]."""

    def __init__(self, model: GRU4Rec) -> None:
        """With copies of the model's weights."""
        super().__init__()
        self.table, self.dense, self.bias = _copies(
            [model.item_embedding.weight, model.dense.weight, model.dense.bias]
        )
        self.gru = _copies(model.gru.parameters())  # of each layer: of its input, of its state

    def forward(self, items: Tensor) -> Tensor:
        """See the class; a state stays as it is behind the last item."""
        x = self.table[items]  # [B, L, D]
        there = (items != 0)[..., None].unbind(1)  # L times [B, 1]
        weights = list(self.gru)
        for of_input, of_state in zip(weights[::2], weights[1::2], strict=True):
            state, states = torch.zeros_like(x[:, 0]), []
            for given, real in zip(linear(x, of_input).unbind(1), there, strict=True):
                reset, update, new = given.chunk(3, -1)
                of_reset, of_update, of_new = linear(state, of_state).chunk(3, -1)
                z = (update + of_update).sigmoid()
                candidate = (new + (reset + of_reset).sigmoid() * of_new).tanh()
                state = torch.where(real, (1 - z) * candidate + z * state, state)
                states.append(state)
            x = torch.stack(states, 1)
        return linear(state, self.dense, self.bias)


def _copies(weights: Iterable[Tensor]) -> nn.ParameterList:
    return nn.ParameterList(
        nn.Parameter(weight.detach().cpu().clone(), requires_grad=False) for weight in weights
    )


class Answering(nn.Module):
    """Padded histories [B, L] to representations [B, D], scores [B, k] and rows of items [B, k].

    Rows count from 1; where nothing is left to answer the score is -inf. Items of the history leave
    the answer where `exclude_seen` says so.
    """

    def __init__(self, model: Model, k: int, exclude_seen: bool) -> None:
        """For this model.

        Raises:
            InputError: there is no padded form of it.
        """
        super().__init__()
        self.encoder: nn.Module
        if isinstance(model, EncoderModel):
            self.encoder = PaddedEncoder(model)
        elif isinstance(model, GRU4Rec):
            self.encoder = PaddedGRU(model)
        else:
            raise InputError(
                f"a {type(model).__name__} has no encoder that could leave as torch or onnx; npy, "
                "safetensors and faiss take its items"
            )
        (self.items,) = _copies([model.items()])  # [V, D]
        self.k, self.exclude_seen = k, exclude_seen
        floor = torch.zeros(len(self.items))
        floor[0] = -torch.inf  # padding is no answer
        self.register_buffer("floor", floor)
        self.floor: Tensor

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        h = self.encoder(items)  # [B, D]
        scores = h @ self.items.T + self.floor  # [B, V]
        if self.exclude_seen:
            scores = scores.scatter(
                1, items, torch.full_like(h[:, :1], -torch.inf).expand_as(items)
            )
        best, rows = scores.topk(self.k)
        return h, best, rows
