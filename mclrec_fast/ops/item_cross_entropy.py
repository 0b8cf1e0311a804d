"""Cross-entropy over the whole item catalogue: `item_cross_entropy`.

Holds schema, fake kernel, autograd and the public function. The plain torch twin is
torch/item_cross_entropy.py, the kernel csrc/cpu/item_cross_entropy_cpu.cpp.
Source: Qin et al., SIGIR 2023, Eq. 5.
"""

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ._shared import check_same_device, check_tensor, define_op, gradients_like, wanted_only
from .torch.item_cross_entropy import item_cross_entropy as _in_torch


def _fake(
    h: Tensor, item_embedding: Tensor, targets: Tensor, grad_h: bool, grad_items: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grads = gradients_like((h, item_embedding), (grad_h, grad_items))
    return h.new_empty(()), grads[0], grads[1]


def _scale(
    grad_loss: Tensor, grad_h: Tensor, grad_items: Tensor, h: Tensor, item_embedding: Tensor
) -> tuple[Tensor, Tensor]:
    """Inputs h, item_embedding are there only to notice a second derivative, which is refused."""
    return grad_h * grad_loss, grad_items * grad_loss


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    h, item_embedding, _, ctx.grad_h, ctx.grad_items = inputs
    _, grad_h, grad_items = output
    ctx.mark_non_differentiable(grad_h, grad_items)
    ctx.set_materialize_grads(False)  # or backward would get zeros for these two
    ctx.save_for_backward(grad_h, grad_items, h, item_embedding)


def _backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 5
    grads = torch.ops.mclrec_fast.item_cross_entropy_backward(grad_loss, *ctx.saved_tensors)
    return wanted_only(grads, (ctx.grad_h, ctx.grad_items), 5)


# The kernel computes the gradients beside the loss, while logits are in cache, of the loss itself;
# the backward op scales them by the gradient that arrives. A gradient nobody wants is [0].
define_op(
    "item_cross_entropy",
    "(Tensor h, Tensor item_embedding, Tensor targets, bool grad_h, bool grad_items)"
    " -> (Tensor, Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_setup_context,
)
define_op(
    "item_cross_entropy_backward",
    "(Tensor grad_loss, Tensor grad_h, Tensor grad_items, Tensor h, Tensor item_embedding)"
    " -> (Tensor, Tensor)",
    None,
)
torch.library.impl("mclrec_fast::item_cross_entropy_backward", "CompositeExplicitAutograd", _scale)


def item_cross_entropy(
    h: Tensor, item_embedding: Tensor, targets: Tensor, *, backend: str = "auto"
) -> Tensor:
    """Mean over B of -log softmax(h . item_embedding^T) at the target; exact, over all classes.

    The logits are never stored as a [B, V] matrix, except in pieces of bounded size while the
    gradient is computed. It is computed with the loss, so call it without gradients wanted
    (``torch.no_grad()``) where only the loss is used. Once differentiable.

    Args:
        h: Row vectors [B, D], float32 or float64, B and D at least 1.
        item_embedding: Item vectors [V, D] of the same dtype; row 0, the padding id, is a class.
        targets: The class of each row [B], int64, in 0 .. V-1.
        backend: "auto", "torch" or "native".

    Returns:
        The loss, a scalar of the dtype of `h`.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, a target outside the table.
        InputError: "native" is not available.
    """
    _check(h, item_embedding, targets)
    if _native.backend(backend, h.device, "item_cross_entropy") == "native":
        grad = torch.is_grad_enabled()
        loss: Tensor = torch.ops.mclrec_fast.item_cross_entropy(
            h,
            item_embedding,
            targets,
            grad and h.requires_grad,
            grad and item_embedding.requires_grad,
        )[0]
        return loss
    if h.device.type == "cpu":
        _check_targets(targets, len(item_embedding))
    return _in_torch(h, item_embedding, targets)


def _check(h: Tensor, item_embedding: Tensor, targets: Tensor) -> None:
    op = "item_cross_entropy"
    check_tensor(op, "h", h, (torch.float32, torch.float64), 2)
    check_tensor(op, "item_embedding", item_embedding, h.dtype, 2)
    check_tensor(op, "targets", targets, torch.int64, 1)
    check_same_device(op, h=h, item_embedding=item_embedding, targets=targets)
    if 0 in h.shape or len(item_embedding) == 0 or h.shape[1] != item_embedding.shape[1]:
        raise ValueError(
            f"{op}: h [B, D] and item_embedding [V, D] must share D, none of them 0, got "
            f"{list(h.shape)} and {list(item_embedding.shape)}"
        )
    if len(targets) != len(h):
        raise ValueError(f"{op}: {len(h)} rows of h but {len(targets)} targets")


def _check_targets(targets: Tensor, classes: int) -> None:
    outside = (targets < 0) | (targets >= classes)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"item_cross_entropy: targets[{row}] is {int(targets[row])}, outside the {classes} "
            "items"
        )
