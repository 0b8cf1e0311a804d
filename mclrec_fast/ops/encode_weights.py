"""The weights of the encoder by name: the one list of their order and shapes.

csrc/shared/encode.h repeats it for the kernels; a test compares the two. A shape is the letters of
its dimensions (V items, P positions, D hidden, F inner); matrices are [out, in], as torch's Linear
has them.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, get_type_hints

from torch import Tensor


class EmbeddingWeights(NamedTuple):
    """The first weights that `encode` takes."""

    item_embedding: Annotated[Tensor, "VD"]
    position_embedding: Annotated[Tensor, "PD"]
    embedding_norm: Annotated[Tensor, "D"]
    embedding_norm_bias: Annotated[Tensor, "D"]


class LayerWeights(NamedTuple):
    """Those of each layer, which follow."""

    query: Annotated[Tensor, "DD"]
    query_bias: Annotated[Tensor, "D"]
    key: Annotated[Tensor, "DD"]
    key_bias: Annotated[Tensor, "D"]
    value: Annotated[Tensor, "DD"]
    value_bias: Annotated[Tensor, "D"]
    output: Annotated[Tensor, "DD"]
    output_bias: Annotated[Tensor, "D"]
    attention_norm: Annotated[Tensor, "D"]
    attention_norm_bias: Annotated[Tensor, "D"]
    inner: Annotated[Tensor, "FD"]
    inner_bias: Annotated[Tensor, "F"]
    outer: Annotated[Tensor, "DF"]
    outer_bias: Annotated[Tensor, "D"]
    feed_forward_norm: Annotated[Tensor, "D"]
    feed_forward_norm_bias: Annotated[Tensor, "D"]


def _table(weights: type) -> dict[str, str]:
    hints = get_type_hints(weights, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


EMBEDDING_SHAPES = _table(EmbeddingWeights)
"""Shape by name, in order."""
LAYER_SHAPES = _table(LayerWeights)
"""Shape by name, in order."""


def split_weights(weights: Sequence[Tensor]) -> tuple[EmbeddingWeights, list[LayerWeights]]:
    """The same weights by name."""
    first, step = len(EMBEDDING_SHAPES), len(LAYER_SHAPES)
    layers = [LayerWeights(*weights[i : i + step]) for i in range(first, len(weights), step)]
    return EmbeddingWeights(*weights[:first]), layers
