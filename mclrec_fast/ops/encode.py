"""The sequence encoder over packed sequences, one op forward and one backward: `encode`.

Holds schema, fake kernels, autograd and the public function. The plain torch twin is
torch/encode.py, the kernels csrc/cpu/encode_cpu.cpp. Source: Kang & McAuley, ICDM 2018, as
RecBole writes it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ._shared import (
    check_same_device,
    check_tensor,
    check_update,
    define_op,
    kept_size,
    require_tensor,
    signed_seed,
    update_tensor,
)
from .encode_weights import EMBEDDING_SHAPES, LAYER_SHAPES, split_weights
from .packed import PackedSequences
from .torch.encode import encode as _in_torch

_INPUTS = "Tensor items, Tensor positions, Tensor offsets, Tensor[] weights"
_OPTIONS = (
    "int heads, float hidden_dropout, float attention_dropout, float eps, int seed, Tensor update"
)


_SAVE = 6  # its place among the arguments behind the weights


def _fake(
    items: Tensor, positions: Tensor, offsets: Tensor, weights: Sequence[Tensor], *options: Any
) -> tuple[Tensor, Tensor]:
    h = weights[0].new_empty(offsets.shape[0] - 1, weights[0].shape[1])
    return h, weights[0].new_empty(kept_size(options[_SAVE]))


def _backward_fake(*arguments: Any) -> list[Tensor]:
    return [weight.new_empty(weight.shape) for weight in arguments[4]]


def _backward_add_fake(*arguments: Any) -> list[Tensor]:
    return _backward_fake(*arguments)[1:]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    items, positions, offsets, weights, *ctx.options, update, ctx.saved, rows = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or backward would get zeros of the size of `saved`
    # `update` is saved as a tensor: a number changed before the backward pass is noticed.
    ctx.save_for_backward(items, positions, offsets, output[1], update, rows, *weights)


def _backward(ctx: Any, grad_h: Tensor | None, _: None) -> tuple[Any, ...]:
    if not ctx.saved:
        raise RuntimeError("encode was called with save=False: nothing was kept for a gradient")
    items, positions, offsets, saved, update, rows, *weights = ctx.saved_tensors
    gradients: Sequence[Tensor | None] = [None] * len(weights)
    if grad_h is not None:
        gradients = torch.ops.mclrec_fast.encode_backward(
            grad_h, items, positions, offsets, weights, saved, *ctx.options, update, rows
        )
    return (None, None, None, gradients, *(None for _ in ctx.options), None, None, None)


define_op(
    "encode",
    f"({_INPUTS}, {_OPTIONS}, bool save, Tensor? rows=None) -> (Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_setup_context,
)
define_op(
    "encode_backward",
    f"(Tensor grad_h, {_INPUTS}, Tensor saved, {_OPTIONS}, Tensor? rows=None) -> Tensor[]",
    _backward_fake,
)
# The same for a caller who has a gradient of the item embedding already: that of the tokens is
# added to it, and the gradients of the other weights are returned. CPU only.
define_op(
    "encode_backward_add",
    f"(Tensor grad_h, {_INPUTS}, Tensor saved, {_OPTIONS}, Tensor(a!) grad_items, "
    "Tensor? rows=None) -> Tensor[]",
    _backward_add_fake,
)


def encode(
    packed: PackedSequences,
    weights: Sequence[Tensor],
    *,
    heads: int,
    hidden_dropout: float,
    attention_dropout: float,
    eps: float,
    seed: int,
    update: int | Tensor,
    rows: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """The representation of each sequence: the encoder's output at its last token.

    SASRec's post-norm blocks, causal; item id 0 is never attended to and its embedding row gets no
    gradient here. Dropout draws the same bits on every backend. First derivatives only, unless
    ``backend`` is "torch".

    Args:
        packed: S sequences, none of them empty; items in 0 .. V - 1, positions in 0 .. P - 1.
        weights: float32 or float64, the fields of `EmbeddingWeights`, then those of `LayerWeights`
            for every layer (one or more); see encode_weights.py for names and shapes.
        heads: attention heads, a divisor of D.
        hidden_dropout: probability of dropping a hidden element, 0 <= p < 1; 0 in evaluation.
        attention_dropout: probability of dropping an attention probability, 0 <= p < 1.
        eps: added to the variance in every layer norm.
        seed: key of the dropout masks, 64 bits.
        update: number of the update, 0 .. 2**32 - 1; or that number in an int64 scalar on the
            device, which CUDA kernels read when they run: a CUDA graph draws anew in every replay.
        rows: int32 [S], 0 .. 2**31 - 1, what the draws of each sequence are addressed by: its row
            in the batch that these are a part of. None for its own row.
        backend: "auto", "torch" or "native".

    Returns:
        h [S, D], of the weights' dtype.

    Raises:
        TypeError: Not a tensor, or one of another dtype.
        ValueError: Another shape, device or number of weights; offsets that do not ascend or that
            exceed the tokens; an item, position or probability out of range.
        InputError: "native" is not available.
    """
    weights = list(weights)
    _check(packed, weights, heads)
    if rows is not None:
        _check_rows(packed, rows)
    for name, p in (("hidden_dropout", hidden_dropout), ("attention_dropout", attention_dropout)):
        if not 0.0 <= p < 1.0:
            raise ValueError(f"encode: {name} must be in [0, 1), got {p}")
    if not eps >= 0.0:
        raise ValueError(f"encode: eps must be at least 0, got {eps}")
    seed = signed_seed(seed)
    number = update_tensor("encode", update, items=packed.items)
    if _native.backend(backend, packed.items.device, "encode") == "native":
        save = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        options = (heads, hidden_dropout, attention_dropout, eps, seed, number)
        h: Tensor = torch.ops.mclrec_fast.encode(*packed, weights, *options, save, rows)[0]
        return h
    update = int(update)
    check_update("update", update)
    _check_values(packed, weights)
    return _in_torch(
        packed,
        weights,
        heads=heads,
        hidden_dropout=hidden_dropout,
        attention_dropout=attention_dropout,
        eps=eps,
        seed=seed,
        update=update,
        rows=rows,
    )


def _check_rows(packed: PackedSequences, rows: Tensor) -> None:
    check_tensor("encode", "rows", rows, torch.int32, 1)
    check_same_device("encode", items=packed.items, rows=rows)
    if len(rows) != len(packed.offsets) - 1:
        raise ValueError(
            f"encode: rows must have one entry for each of the {len(packed.offsets) - 1} "
            f"sequences, got {len(rows)}"
        )


def _check(packed: PackedSequences, weights: list[Tensor], heads: int) -> None:
    for name, tensor in zip(packed._fields, packed, strict=True):
        check_tensor("encode", name, tensor, torch.int32, 1)
    first, step = len(EMBEDDING_SHAPES), len(LAYER_SHAPES)
    if len(weights) < first + step or (len(weights) - first) % step:
        raise ValueError(
            f"encode: weights must be {first} and {step} for each layer, got {len(weights)}"
        )
    check_tensor("encode", "item_embedding", weights[0], (torch.float32, torch.float64), 2)
    for number, weight in enumerate(weights):
        require_tensor("encode", f"weights[{number}]", weight)
        check_tensor("encode", f"weights[{number}]", weight, weights[0].dtype, weight.dim())
        if weight.device != weights[0].device:
            check_same_device("encode", **{"weights[0]": weights[0], f"weights[{number}]": weight})
    check_same_device("encode", **packed._asdict(), weights=weights[0])
    if len(packed.items) != len(packed.positions):
        raise ValueError(
            f"encode: items and positions must have one size, got {len(packed.items)} and "
            f"{len(packed.positions)}"
        )
    if len(packed.offsets) < 1:
        raise ValueError("encode: offsets must hold at least one number")
    hidden = weights[0].shape[1]
    if heads < 1 or hidden % heads:
        raise ValueError(f"encode: heads must divide the hidden size {hidden}, got {heads}")
    _check_shapes(weights, hidden)


def _check_shapes(weights: list[Tensor], hidden: int) -> None:
    embedding, layers = split_weights(weights)
    sizes = {
        "V": embedding.item_embedding.shape[0],
        "P": embedding.position_embedding.shape[0],
        "D": hidden,
        "F": layers[0].inner.shape[0],
    }
    letters = [*EMBEDDING_SHAPES.items(), *len(layers) * [*LAYER_SHAPES.items()]]
    for number, (weight, (name, shape)) in enumerate(zip(weights, letters, strict=True)):
        wanted = [sizes[letter] for letter in shape]
        if list(weight.shape) != wanted:
            raise ValueError(
                f"encode: weights[{number}] ({name}) must have shape {wanted}, got "
                f"{list(weight.shape)}"
            )


def _check_values(packed: PackedSequences, weights: list[Tensor]) -> None:
    """The kernel's checks of values, with its words."""
    items, positions, offsets = packed
    steps = offsets.to(torch.int64).diff()
    if int(offsets[0]) != 0:
        raise ValueError(f"encode: offsets must start at 0, got {int(offsets[0])}")
    if bool((steps <= 0).any()):
        s = int((steps <= 0).nonzero()[0])
        raise ValueError(
            f"encode: offsets must ascend (no sequence is empty), got {int(offsets[s])} and "
            f"{int(offsets[s + 1])} around sequence {s}"
        )
    tokens = int(offsets[-1])
    if tokens > len(items):
        raise ValueError(f"encode: offsets end at {tokens}, but there are {len(items)} tokens")
    for name, index, table in (("items", items, weights[0]), ("positions", positions, weights[1])):
        outside = (index[:tokens] < 0) | (index[:tokens] >= len(table))
        if bool(outside.any()):
            t = int(outside.nonzero()[0])
            raise ValueError(
                f"encode: {name}[{t}] must be in 0..{len(table) - 1}, got {int(index[t])}"
            )
