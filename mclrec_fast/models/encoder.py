"""The sequence encoder as a module: it holds SASRec's weights; the arithmetic is `ops.encode`.

And what the models have in common that are built on it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import _native
from ..losses import find_loss
from ..losses.base import Loss
from ..ops import PackedSequences, encode
from ..ops._shared import signed_seed, update_tensor
from ..ops.encode_weights import EMBEDDING_SHAPES, LAYER_SHAPES
from ..parallel import Part
from .base import Batch, Model, Pass
from .options import EncoderOptions
from .stock import stock
from .table_gradient import TableGradient

_OPS = torch.ops.mclrec_fast


class EncodeArguments(NamedTuple):
    """The arguments of `ops.encode` that are not weights or sequences; see there."""

    heads: int
    hidden_dropout: float
    attention_dropout: float
    eps: float
    seed: int
    update: int | Tensor


def _named(module: nn.Module, names: Iterable[str]) -> list[Tensor]:
    """The weights of a module's parts by the names of encode_weights.py."""
    parts = ((getattr(module, name.removesuffix("_bias")), name) for name in names)
    return [part.bias if name.endswith("_bias") else part.weight for part, name in parts]


@stock
class EncoderLayer(nn.Module):
    """The weights of one post-norm transformer block (D hidden, F inner)."""

    def __init__(self, hidden: int, inner: int, eps: float) -> None:
        """Create the weights, still in torch's own initialisation."""
        super().__init__()
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps)
        self.inner = nn.Linear(hidden, inner)
        self.outer = nn.Linear(inner, hidden)
        self.feed_forward_norm = nn.LayerNorm(hidden, eps)


@stock
class Encoder(nn.Module):
    """SASRec's encoder: packed item sequences to one representation each.

    Every linear and embedding weight starts from N(0, init_std), row 0 of the item embedding too;
    biases from 0, LayerNorm from 1 and 0 (RecBole's initialisation).
    """

    def __init__(self, n_classes: int, options: EncoderOptions) -> None:
        """Create the weights for ``n_classes`` item classes, padding id 0 included."""
        super().__init__()
        self.options = options
        hidden = options.hidden_size
        self.item_embedding = nn.Embedding(n_classes, hidden)
        self.position_embedding = nn.Embedding(options.max_length, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, options.layer_norm_eps)
        self.layers = nn.ModuleList(
            EncoderLayer(hidden, options.inner_size, options.layer_norm_eps)
            for _ in range(options.layers)
        )
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.options.init_std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def weights(self) -> list[Tensor]:
        """All weights in the order `ops.encode` takes them."""
        weights = _named(self, EMBEDDING_SHAPES)
        for layer in self.layers:
            weights += _named(layer, LAYER_SHAPES)
        return weights

    def forward(
        self,
        packed: PackedSequences,
        *,
        seed: int,
        update: int | Tensor,
        rows: Tensor | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """The representation of each sequence; dropout is active in training mode only.

        Args:
            packed: S sequences.
            seed: the 64-bit key of the dropout draws.
            update: number of the update, which makes the draws of every update differ; a number
                or an int64 scalar on the device, see `ops.encode`.
            rows: what the draws of each sequence are addressed by, see `ops.encode`.
            backend: who computes it, see `ops.encode`.

        Returns:
            [S, D], the encoder's output at each sequence's last token.
        """
        return encode(
            packed,
            self.weights(),
            **self.arguments(seed, update)._asdict(),
            rows=rows,
            backend=backend,
        )

    def arguments(self, seed: int, update: int | Tensor) -> EncodeArguments:
        """The numbers `ops.encode` takes, in the operator's order; see `forward`."""
        return EncodeArguments(
            heads=self.options.heads,
            hidden_dropout=self.options.hidden_dropout if self.training else 0.0,
            attention_dropout=self.options.attention_dropout if self.training else 0.0,
            eps=self.options.layer_norm_eps,
            seed=seed,
            update=update,
        )


@stock
class EncoderModel(Model):
    """A model that scores items by its encoder and the encoder's item embedding."""

    options: EncoderOptions

    def build(self, n_classes: int) -> None:
        """Create the encoder."""
        self.encoder = Encoder(n_classes, self.options)

    def represent(self, packed: PackedSequences, at: Pass) -> Tensor:
        """The encoder's output at each last item, [S, D]."""
        rows = {} if at.place is None else {"rows": at.rows(packed)}
        h: Tensor = self.encoder(packed, seed=at.seed, update=at.update, backend=at.backend, **rows)
        return h

    def items(self) -> Tensor:
        """The item embedding, [V, D]."""
        return self.encoder.item_embedding.weight

    @property
    def loss(self) -> Loss:
        """L_rec."""
        return find_loss(self.options.loss).of(self.options)

    def by_hand(self, backend: str) -> tuple[bool, str | None]:
        """See `Model`; the loss must have kernels, too."""
        of_loss = self.loss.kernels
        if of_loss is None or not all(_native.has_kernel(op, self.device) for op in of_loss):
            return False, None
        return super().by_hand(backend)


class Encoded(NamedTuple):
    """Sequences that kernels have encoded, and what their gradients need; no autograd knows of it.

    The weights' gradients come from the kernels, too: one array for the item table's, which the
    catalogue softmax writes and the encoder adds to.
    """

    h: Tensor  # [S, D]
    packed: PackedSequences
    weights: list[Tensor]
    arguments: EncodeArguments
    rows: Tensor | None
    saved: Tensor
    table: TableGradient | None

    @classmethod
    def by_kernels(
        cls, encoder: Encoder, packed: PackedSequences, at: Pass, *, save: bool
    ) -> "Encoded":
        """Encode; `save` keeps what `gradients` needs."""
        number = update_tensor("encode", at.update, items=packed.items)
        weights, arguments = encoder.weights(), encoder.arguments(signed_seed(at.seed), number)
        rows = at.rows(packed)
        h, saved = _OPS.encode.default(*packed, weights, *arguments, save, rows)
        return cls(h, packed, weights, arguments, rows, saved, at.table)

    def gradients(self, grad_h: Tensor, grad_items: Tensor) -> list[Tensor]:
        """A gradient of every weight, from that of h [S, D].

        Args:
            grad_h: gradient of h.
            grad_items: what else the item table's gradient holds [V, D]; the encoder's is added
                in place, and it is the first that is returned.
        """
        if self.table is not None:
            self.table.also(grad_items, self.packed.items[: int(self.packed.offsets[-1])])
        others = _OPS.encode_backward_add.default(
            grad_h, *self.packed, self.weights, self.saved, *self.arguments, grad_items, self.rows
        )
        return [grad_items, *others]


def encode_parts(
    encoder: Encoder,
    parts: Sequence[Part],
    at: Pass,
    which: Callable[[Batch], PackedSequences],
    *,
    save: bool,
) -> list[Encoded]:
    """Some of the sequences of every part of a batch, encoded by kernels.

    Args:
        encoder: the encoder.
        parts: this process's parts.
        at: random draws.
        which: the sequences of a part that are wanted.
        save: whether gradients are wanted later.
    """
    return [
        Encoded.by_kernels(encoder, which(part.batch), at._replace(place=part.place), save=save)
        for part in parts
    ]


ENCODER_KERNELS = ("encode", "encode_backward_add")
"""Operators that `Encoded` calls."""
