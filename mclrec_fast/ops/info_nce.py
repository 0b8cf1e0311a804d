"""The contrast of two views, InfoNCE: `info_nce`, in O(B D) memory.

Holds schema, fake kernels, autograd and the public function. The plain torch twin is
reference/info_nce.py, the kernel csrc/cpu/similarity_cpu.cpp.
Source: Qin et al., SIGIR 2023, Eq. 8, as the mean over the 2B rows.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ._shared import NAMESPACE, check_same_device, check_tensor, refuse_second_derivative
from .reference import info_nce as _reference

# `saved` is the kernel's own: row statistics, and what else it likes; empty unless `save`.
torch.library.define(
    f"{NAMESPACE}::info_nce",
    "(Tensor a, Tensor b, float temperature, bool cosine, bool save) -> (Tensor, Tensor)",
)
torch.library.define(
    f"{NAMESPACE}::info_nce_backward",
    "(Tensor grad_loss, Tensor a, Tensor b, Tensor saved, float temperature, bool cosine, "
    "bool grad_a, bool grad_b) -> (Tensor, Tensor)",
)


def _fake(
    a: Tensor, b: Tensor, temperature: float, cosine: bool, save: bool
) -> tuple[Tensor, Tensor]:
    size = torch.library.get_ctx().new_dynamic_size() if save else 0
    return a.new_empty(()), a.new_empty(size)


def _backward_fake(
    grad_loss: Tensor,
    a: Tensor,
    b: Tensor,
    saved: Tensor,
    temperature: float,
    cosine: bool,
    grad_a: bool,
    grad_b: bool,
) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape if grad_a else (0,)), b.new_empty(b.shape if grad_b else (0,))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, b, ctx.temperature, ctx.cosine, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # or backward would get zeros for it
    ctx.save_for_backward(a, b, output[1])


def _backward(ctx: Any, grad_loss: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    if grad_loss is None or not any(wanted):
        return (None,) * 5
    grads = torch.ops.mclrec_fast.info_nce_backward(
        grad_loss, *ctx.saved_tensors, ctx.temperature, ctx.cosine, *wanted
    )
    return (
        *(grad if want else None for grad, want in zip(grads, wanted, strict=True)),
        None,
        None,
        None,
    )


torch.library.register_fake(f"{NAMESPACE}::info_nce", _fake)
torch.library.register_fake(f"{NAMESPACE}::info_nce_backward", _backward_fake)
torch.library.register_autograd(f"{NAMESPACE}::info_nce", _backward, setup_context=_setup_context)
refuse_second_derivative("info_nce_backward")


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
    return _reference.info_nce(a, b, temperature=temperature, similarity=similarity)


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
