"""The learnable augmenter, a small perceptron with an output of unit length: `augmenter`.

Holds schema, fake kernels, autograd and the public function. The plain torch twin is
torch/augmenter.py, the kernel csrc/cpu/augmenter_cpu.cpp. Source: Qin et al. 2023, Eq. 7.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ._shared import (
    check_same_device,
    check_tensor,
    define_op,
    gradients_like,
    kept_size,
    wanted_only,
)
from .torch.augmenter import augmenter as _in_torch

_NAMES = ("weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3")
_WEIGHTS = ", ".join(f"Tensor {name}" for name in _NAMES)


def _fake(h: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *weights, save = arguments
    return h.new_empty(len(h), len(weights[4])), h.new_empty(kept_size(save))


def _backward_fake(grad_z: Tensor, h: Tensor, *arguments: Any) -> list[Tensor]:
    *weights, _, _, grad_h, grad_weights = arguments
    return list(gradients_like((h, *weights), (grad_h, *[grad_weights] * len(weights))))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.saved = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or backward would get zeros for `saved`
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx: Any, grad_z: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:7]
    if grad_z is None or not any(wanted):
        return (None,) * 8
    if not ctx.saved:
        raise RuntimeError("augmenter was called with save=False: nothing was kept for a gradient")
    gradients = torch.ops.mclrec_fast.augmenter_backward(
        grad_z, *ctx.saved_tensors, wanted[0], any(wanted[1:])
    )
    return wanted_only(gradients, wanted, 8)


define_op(
    "augmenter",
    f"(Tensor h, {_WEIGHTS}, bool save) -> (Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_setup_context,
)
define_op(
    "augmenter_backward",
    f"(Tensor grad_z, Tensor h, {_WEIGHTS}, Tensor z, Tensor saved, bool grad_h, "
    "bool grad_weights) -> Tensor[]",
    _backward_fake,
)


def augmenter(h: Tensor, weights: Sequence[Tensor], *, backend: str = "auto") -> Tensor:
    """The augmented view of each representation, a vector of unit length.

    z = y / |y|, y = W3 gelu(W2 gelu(W1 h + b1) + b2) + b3, with the exact (erf) GELU and no epsilon
    in the norm. First derivatives only, unless ``backend`` is "torch". On a GPU it is always plain
    torch: there is no CUDA kernel.

    Args:
        h: representations [B, D], float32 or float64, B and D at least 1.
        weights: W1 [E, D], b1 [E], W2 [F, E], b2 [F], W3 [G, F], b3 [G], of the dtype of `h`; the
            paper has E = D/2, F = D/4, G = D.
        backend: "auto", "torch" or "native".

    Returns:
        z [B, G], of the dtype of `h`.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes, devices or number of weights.
        InputError: "native" is not available.
    """
    weights = list(weights)
    _check(h, weights)
    if h.device.type == "cpu" and _native.backend(backend, h.device, "augmenter") == "native":
        save = torch.is_grad_enabled() and any(t.requires_grad for t in (h, *weights))
        z: Tensor = torch.ops.mclrec_fast.augmenter(h, *weights, save)[0]
        return z
    return _in_torch(h, *weights)


def _check(h: Tensor, weights: list[Tensor]) -> None:
    check_tensor("augmenter", "h", h, (torch.float32, torch.float64), 2)
    if h.numel() == 0:
        raise ValueError(f"augmenter: h must not be empty, got shape {list(h.shape)}")
    if len(weights) != len(_NAMES):
        raise ValueError(f"augmenter: weights must be {len(_NAMES)}, got {len(weights)}")
    size = h.shape[1]
    for number, (name, weight) in enumerate(zip(_NAMES, weights, strict=True)):
        matrix = number % 2 == 0
        check_tensor("augmenter", name, weight, h.dtype, 2 if matrix else 1)
        wrong = weight.shape[-1] != size or len(weight) == 0
        if wrong:
            wanted = f"[*, {size}]" if matrix else f"[{size}]"
            got = list(weight.shape)
            raise ValueError(f"augmenter: {name} must have shape {wanted}, got {got}")
        size = len(weight)
    check_same_device("augmenter", h=h, **dict(zip(_NAMES, weights, strict=True)))
