"""`encode` with the number of its update in memory: `encode_counted`, for CUDA graphs.

A captured graph repeats the arguments of its launches, so an update's number among them would draw
the same dropout for ever; these kernels read it when they run. The same number gives the same bits.
Where there is no such kernel the number is read first. Schema, fake kernels and autograd; the
public function is `encode`, given a tensor as `update`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._shared import NAMESPACE, refuse_second_derivative
from .encode import _encode_backward_fake, _encode_fake

_OPTIONS = (
    "int heads, float hidden_dropout, float attention_dropout, float eps, int seed, Tensor update"
)

torch.library.define(
    f"{NAMESPACE}::encode_counted",
    f"(Tensor items, Tensor positions, Tensor offsets, Tensor[] weights, {_OPTIONS}, bool save) "
    "-> (Tensor, Tensor)",
)
torch.library.define(
    f"{NAMESPACE}::encode_counted_backward",
    "(Tensor grad_h, Tensor items, Tensor positions, Tensor offsets, Tensor[] weights, "
    f"Tensor saved, {_OPTIONS}) -> Tensor[]",
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    items, positions, offsets, weights, *options, update, save = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or backward would get zeros of the size of `saved`
    ctx.options = options
    ctx.saved = save
    # Saved as a tensor: autograd then notices a number that was changed before the backward pass.
    ctx.save_for_backward(items, positions, offsets, output[1], update, *weights)


def _backward(ctx: Any, grad_h: Tensor | None, _: None) -> tuple[Any, ...]:
    if not ctx.saved:
        raise RuntimeError("encode was called with save=False: nothing was kept for a gradient")
    items, positions, offsets, saved, update, *weights = ctx.saved_tensors
    gradients: Sequence[Tensor | None] = [None] * len(weights)
    if grad_h is not None:
        gradients = torch.ops.mclrec_fast.encode_counted_backward(
            grad_h, items, positions, offsets, weights, saved, *ctx.options, update
        )
    return (None, None, None, gradients, *(None for _ in ctx.options), None, None)


def _read_first(*arguments: Any) -> tuple[Tensor, Tensor]:
    *others, update, save = arguments
    found: tuple[Tensor, Tensor] = torch.ops.mclrec_fast.encode(*others, int(update), save)
    return found


def _read_first_backward(*arguments: Any) -> list[Tensor]:
    *others, update = arguments
    found: list[Tensor] = torch.ops.mclrec_fast.encode_backward(*others, int(update))
    return found


torch.library.impl(f"{NAMESPACE}::encode_counted", "default", _read_first)
torch.library.impl(f"{NAMESPACE}::encode_counted_backward", "default", _read_first_backward)
torch.library.register_fake(f"{NAMESPACE}::encode_counted", _encode_fake)
torch.library.register_fake(f"{NAMESPACE}::encode_counted_backward", _encode_backward_fake)
torch.library.register_autograd(
    f"{NAMESPACE}::encode_counted", _backward, setup_context=_setup_context
)
refuse_second_derivative("encode_counted_backward")
