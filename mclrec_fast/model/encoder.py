"""The sequence encoder as a module: it holds SASRec's weights; the arithmetic is `ops.encode`."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from ..config import ModelConfig
from ..ops import PackedSequences, encode
from ..ops.encode_weights import EMBEDDING_SHAPES, LAYER_SHAPES


class EncodeOptions(NamedTuple):
    """The arguments of `ops.encode` that are not tensors; see there."""

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


class Encoder(nn.Module):
    """SASRec's encoder: packed item sequences to one representation each.

    Every linear and embedding weight starts from N(0, init_std), row 0 of the item embedding too;
    biases from 0, LayerNorm from 1 and 0 (spec: RecBole's initialisation).
    """

    def __init__(self, n_classes: int, config: ModelConfig) -> None:
        """Create the weights for ``n_classes`` item classes, padding id 0 included."""
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.item_embedding = nn.Embedding(n_classes, hidden)
        self.position_embedding = nn.Embedding(config.max_length, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, config.layer_norm_eps)
        self.layers = nn.ModuleList(
            EncoderLayer(hidden, config.inner_size, config.layer_norm_eps)
            for _ in range(config.layers)
        )
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def weights(self) -> list[Tensor]:
        """All weights in the order `ops.encode` takes them."""
        weights = _named(self, EMBEDDING_SHAPES)
        for layer in self.layers:
            weights += _named(layer, LAYER_SHAPES)
        return weights

    def forward(
        self, packed: PackedSequences, *, seed: int, update: int | Tensor, backend: str = "auto"
    ) -> Tensor:
        """The representation of each sequence; dropout is active in training mode only.

        Args:
            packed: S sequences.
            seed: the 64-bit key of the dropout draws.
            update: number of the update, which makes the draws of every update differ; a number
                or an int64 scalar on the device, see `ops.encode`.
            backend: who computes it, see `ops.encode`.

        Returns:
            [S, D], the encoder's output at each sequence's last token.
        """
        return encode(
            packed, self.weights(), **self.options(seed, update)._asdict(), backend=backend
        )

    def options(self, seed: int, update: int | Tensor) -> EncodeOptions:
        """The numbers `ops.encode` takes, in the operator's order; see `forward`."""
        return EncodeOptions(
            heads=self.config.heads,
            hidden_dropout=self.config.hidden_dropout if self.training else 0.0,
            attention_dropout=self.config.attention_dropout if self.training else 0.0,
            eps=self.config.layer_norm_eps,
            seed=seed,
            update=update,
        )
