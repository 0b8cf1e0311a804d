"""The contrast of two views, InfoNCE: `info_nce`, in O(B D) memory.

Holds schema, fake kernels, autograd and the public function. The plain torch twin is
torch/info_nce.py, the kernel csrc/cpu/info_nce_cpu.cpp.
Source: Qin et al., SIGIR 2023, Eq. 8, as the mean over the 2B rows.
"""

import math
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
from .torch.info_nce import info_nce as _in_torch


def _fake(
    a: Tensor, b: Tensor, temperature: float, cosine: bool, save: bool
) -> tuple[Tensor, Tensor]:
    return a.new_empty(()), a.new_empty(kept_size(save))


def _backward_fake(
    grad_loss: Tensor, a: Tensor, b: Tensor, saved: Tensor, *options: Any
) -> tuple[Tensor, ...]:
    return gradients_like((a, b), options[2:])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, b, *ctx.options, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or backward would get zeros for it
    ctx.save_for_backward(a, b, output[1])


def _backward(ctx: Any, grad_loss: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    if grad_loss is None or not any(wanted):
        return (None,) * 5
    gradients = torch.ops.mclrec_fast.info_nce_backward(
        grad_loss, *ctx.saved_tensors, *ctx.options, *wanted
    )
    return wanted_only(gradients, wanted, 5)


# The second output is the kernel's own: row statistics, and what else it likes; empty unless
# `save`.
define_op(
    "info_nce",
    "(Tensor a, Tensor b, float temperature, bool cosine, bool save) -> (Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_setup_context,
)
define_op(
    "info_nce_backward",
    "(Tensor grad_loss, Tensor a, Tensor b, Tensor saved, float temperature, bool cosine, "
    "bool grad_a, bool grad_b) -> (Tensor, Tensor)",
    _backward_fake,
)


def info_nce(
    a: Tensor,
    b: Tensor,
    *,
    temperature: float = 1.0,
    similarity: str = "dot",
    backend: str = "auto",
) -> Tensor:
    """Contrast of two views: each of their 2B rows finds its other view among the 2B - 1 others.

    Mean over the rows of -log softmax at the positive; the negatives are the 2B - 2 rows of other
    samples. 0 for B = 1. Once differentiable.

    Args:
        a: First views [B, D], float32 or float64, B and D at least 1.
        b: Second views, the same shape and dtype.
        temperature: Divides the similarities, > 0.
        similarity: "dot", or "cos" for rows of unit length (shorter than 1e-8: divided by that).
        backend: "auto", "torch" or "native"; native needs O(B D) memory, torch O(B^2).

    Returns:
        The loss, a scalar of the dtype of `a`.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, temperature not above 0, an unknown similarity.
        InputError: "native" is not available.
    """
    check_views("info_nce", a=a, b=b)
    check_similarity("info_nce", temperature, similarity)
    if _native.backend(backend, a.device, "info_nce") == "native":
        save = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
        loss: Tensor = torch.ops.mclrec_fast.info_nce(a, b, temperature, similarity == "cos", save)[
            0
        ]
        return loss
    return _in_torch(a, b, temperature=temperature, similarity=similarity)


def check_views(op: str, **views: Tensor) -> None:
    """Check that the views are float matrices of one dtype, shape and device.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong or different shapes, two devices.
    """
    first_name, first = next(iter(views.items()))
    check_tensor(op, first_name, first, (torch.float32, torch.float64), 2)
    for name, view in views.items():
        check_tensor(op, name, view, first.dtype, 2)
        if view.shape != first.shape:
            raise ValueError(
                f"{op}: {name} must have the shape of {first_name}, {list(first.shape)}, got "
                f"{list(view.shape)}"
            )
    if first.numel() == 0:
        raise ValueError(f"{op}: {first_name} must not be empty, got shape {list(first.shape)}")
    check_same_device(op, **views)


def check_similarity(op: str, temperature: float, similarity: str) -> None:
    """Check the settings of a similarity.

    Raises:
        ValueError: A temperature that is not positive and finite, an unknown similarity.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"{op}: temperature must be positive and finite, got {temperature}")
    if similarity not in ("dot", "cos"):
        raise ValueError(f"{op}: similarity must be 'dot' or 'cos', got {similarity!r}")
