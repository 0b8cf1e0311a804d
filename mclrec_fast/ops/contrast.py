"""The losses of the four views of a batch: `contrast`, from one pass over their B x B blocks.

Holds schema, fake kernels, autograd and the public function. The plain torch twin is
torch/contrast.py, the kernel csrc/cpu/contrast_cpu.cpp.
Source: Qin et al., SIGIR 2023, Eq. 8-13, with the sums as the authors' code takes them.
"""

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ._shared import define_op, gradients_like, kept_size, wanted_only
from .info_nce import check_similarity, check_views
from .torch.contrast import contrast as _in_torch


def _fake(h1: Tensor, h2: Tensor, z1: Tensor, z2: Tensor, *options: Any) -> tuple[Tensor, ...]:
    save = options[-1]
    return (
        *(h1.new_empty(()) for _ in range(3)),
        h1.new_empty(kept_size(save)),
        h1.new_empty(kept_size(save), dtype=torch.int32),
    )


def _backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    return gradients_like(arguments[3:7], arguments[-4:])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.options = inputs[4:-1]
    ctx.mark_non_differentiable(*output[3:])
    ctx.set_materialize_grads(False)  # or backward would get zeros for these two
    ctx.save_for_backward(*inputs[:4], *output[3:])


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:4]
    if all(grad is None for grad in grads[:3]) or not any(wanted):
        return (None,) * 8
    zero = ctx.saved_tensors[0].new_zeros(())
    gradients = torch.ops.mclrec_fast.contrast_backward(
        *(zero if grad is None else grad for grad in grads[:3]),
        *ctx.saved_tensors,
        *ctx.options,
        *wanted,
    )
    return wanted_only(gradients, wanted, 8)


# The last two outputs, `values` and `indices`, are the kernel's own state for the gradient; empty
# unless `save`.
define_op(
    "contrast",
    "(Tensor h1, Tensor h2, Tensor z1, Tensor z2, float temperature, bool cosine, bool cl1, "
    "bool save) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_setup_context,
)
define_op(
    "contrast_backward",
    "(Tensor grad_cl1, Tensor grad_cl2, Tensor grad_regulariser, Tensor h1, Tensor h2, Tensor z1, "
    "Tensor z2, Tensor values, Tensor indices, float temperature, bool cosine, bool cl1, "
    "bool grad_h1, bool grad_h2, bool grad_z1, bool grad_z2) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward_fake,
)


def contrast(
    h1: Tensor,
    h2: Tensor,
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = 1.0,
    similarity: str = "dot",
    cl1: bool = True,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """L_cl1, L_cl2 and the contrastive regulariser R of the four views of a batch.

    With con the contrast of two views (see `info_nce`) and reg their regulariser:
    L_cl1 = con(h1, h2); L_cl2 = con(z1, z2) + con(h1, z2) + con(h2, z1) and
    R = reg(z1, z2) + reg(h1, z2) + reg(h2, z1), these always from plain dot products. All are 0 for
    B = 1. Once differentiable.

    Args:
        h1: Encodings of the first views [B, D], float32 or float64, B and D at least 1.
        h2: Encodings of the second views; like z1 and z2 of the shape and dtype of h1.
        z1: Augmented first views.
        z2: Augmented second views.
        temperature: Of L_cl1, > 0.
        similarity: Of L_cl1, "dot" or "cos".
        cl1: Whether L_cl1 is wanted; if not it is 0 and costs nothing.
        backend: "auto", "torch" or "native".

    Returns:
        (L_cl1, L_cl2, R), scalars of the dtype of h1.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, temperature not above 0, an unknown similarity.
        InputError: "native" is not available.
    """
    views = {"h1": h1, "h2": h2, "z1": z1, "z2": z2}
    check_views("contrast", **views)
    check_similarity("contrast", temperature, similarity)
    if _native.backend(backend, h1.device, "contrast") == "native":
        save = torch.is_grad_enabled() and any(view.requires_grad for view in views.values())
        losses: tuple[Tensor, ...] = torch.ops.mclrec_fast.contrast(
            h1, h2, z1, z2, temperature, similarity == "cos", cl1, save
        )
        return losses[0], losses[1], losses[2]
    return _in_torch(h1, h2, z1, z2, temperature=temperature, similarity=similarity, cl1=cl1)
