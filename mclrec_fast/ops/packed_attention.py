"""Causal attention within the sequences of a packed batch: `packed_attention`.

Holds schema, fake kernels, autograd and the public function. The plain torch twin is
torch/packed_attention.py, the kernel csrc/cpu/packed_attention_cpu.cpp.
Source: Vaswani et al., NeurIPS 2017; causal as in Kang & McAuley, ICDM 2018.
"""

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ._shared import (
    check_same_device,
    check_tensor,
    check_update,
    define_op,
    gradients_like,
    signed_seed,
    update_tensor,
    wanted_only,
)
from .torch.packed_attention import packed_attention as _in_torch

_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor offsets, Tensor? visible"
_OPTIONS = "float dropout, int seed, Tensor update, int layer"


def _fake(query: Tensor, *_: Any) -> Tensor:
    return query.new_empty(query.shape)


def _backward_fake(grad: Tensor, query: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return gradients_like((query,) * 3, (True,) * 3)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, dropout, seed, update, layer = inputs
    ctx.save_for_backward(*tensors, update)
    ctx.options = dropout, seed, layer


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    *tensors, update = ctx.saved_tensors
    dropout, seed, layer = ctx.options
    gradients = torch.ops.mclrec_fast.packed_attention_backward(
        grad, *tensors, dropout, seed, update, layer
    )
    return wanted_only(gradients, (True,) * 3, 9)


# Only the inputs are kept for the backward pass: the probabilities are cheap to compute again.
define_op(
    "packed_attention",
    f"({_INPUTS}, {_OPTIONS}) -> Tensor",
    _fake,
    backward=_backward,
    setup_context=_setup_context,
)
define_op(
    "packed_attention_backward",
    f"(Tensor grad, {_INPUTS}, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    _backward_fake,
)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    *,
    visible: Tensor | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    update: int | Tensor = 0,
    layer: int = 0,
    backend: str = "auto",
) -> Tensor:
    """Each token attends to the visible tokens of its sequence up to itself.

    softmax(query . key / sqrt(d)), dropout on the probabilities, times value; a token that sees no
    visible token gets 0, and so do tokens behind the last sequence. Once differentiable, unless
    ``backend`` is "torch".

    Args:
        query: [T, H, d], float32 or float64; H heads of d elements.
        key: [T, H, d].
        value: [T, H, d].
        offsets: int32 [S + 1], ascending from 0: sequence s is tokens offsets[s] .. offsets[s + 1].
            Sequences may be empty; T may exceed the last offset.
        visible: bool [T], which tokens are keys; None for all.
        dropout: probability of dropping a probability, 0 <= p < 1.
        seed: key of the dropout mask, 64 bits.
        update: number of the update, 0 .. 2**32 - 1, or that number in an int64 scalar on the
            device (see `encode`); another update draws another mask.
        layer: number of the layer, 0 .. 255; another layer draws another mask.
        backend: "auto", "torch" or "native".

    Returns:
        [T, H, d], of the dtype of `query`.

    Raises:
        TypeError: A tensor of another dtype.
        ValueError: Another shape or device; offsets that do not ascend or that exceed T; a number
            out of range.
        InputError: "native" is not available.
    """
    _check(query, key, value, offsets, visible)
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"packed_attention: dropout must be in [0, 1), got {dropout}")
    if not 0 <= layer < 256:
        raise ValueError(f"packed_attention: layer must be in 0..255, got {layer}")
    seed = signed_seed(seed)
    number = update_tensor("packed_attention", update, query=query)
    if _native.backend(backend, query.device, "packed_attention") == "native":
        context: Tensor = torch.ops.mclrec_fast.packed_attention(
            query, key, value, offsets, visible, dropout, seed, number, layer
        )
        return context
    update = int(update)
    check_update("update", update)
    _check_offsets(offsets, len(query))
    return _in_torch(
        query,
        key,
        value,
        offsets,
        visible=visible,
        dropout=dropout,
        seed=seed,
        update=update,
        layer=layer,
    )


def _check(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, visible: Tensor | None
) -> None:
    op = "packed_attention"
    check_tensor(op, "query", query, (torch.float32, torch.float64), 3)
    if 0 in query.shape[1:]:
        raise ValueError(f"{op}: query must have at least one head of one element")
    for name, tensor in (("key", key), ("value", value)):
        check_tensor(op, name, tensor, query.dtype, 3)
        if tensor.shape != query.shape:
            raise ValueError(
                f"{op}: query and {name} must have one shape, got {list(query.shape)} and "
                f"{list(tensor.shape)}"
            )
    check_tensor(op, "offsets", offsets, torch.int32, 1)
    if len(offsets) < 1:
        raise ValueError(f"{op}: offsets must hold at least one number")
    check_same_device(op, query=query, key=key, value=value, offsets=offsets)
    if visible is not None:
        check_tensor(op, "visible", visible, torch.bool, 1)
        check_same_device(op, query=query, visible=visible)
        if len(visible) != len(query):
            raise ValueError(f"{op}: visible must hold {len(query)} tokens, got {len(visible)}")


def _check_offsets(offsets: Tensor, tokens: int) -> None:
    """The kernel's checks of values, with its words."""
    op = "packed_attention"
    if int(offsets[0]) != 0:
        raise ValueError(f"{op}: offsets must start at 0, got {int(offsets[0])}")
    steps = offsets.to(torch.int64).diff()
    if bool((steps < 0).any()):
        s = int((steps < 0).nonzero()[0])
        raise ValueError(
            f"{op}: offsets must ascend, got {int(offsets[s])} and {int(offsets[s + 1])} around "
            f"sequence {s}"
        )
    if int(offsets[-1]) > tokens:
        raise ValueError(f"{op}: offsets end at {int(offsets[-1])}, but there are {tokens} tokens")
