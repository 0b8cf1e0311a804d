"""What every op file needs: registration, numbers as the dispatcher takes them, and checks.

The checks raise plain `TypeError` and `ValueError`. Kernels check again what would crash them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "mclrec_fast"


def define_op(
    name: str,
    schema: str,
    fake: Callable[..., Any] | None,
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> None:
    """Make the operator `mclrec_fast::name` known to torch; kernels register themselves.

    Args:
        name: Without namespace; "..._backward" for one that computes a derivative, which cannot be
            differentiated itself: torch would silently treat its outputs as constants.
        schema: Arguments and results, as `torch.library.define` takes them.
        fake: The outputs' shapes without their values; None where torch can run the operator's
            own implementation for that.
        backward: The derivative, as `torch.library.register_autograd` takes it; None for none.
        setup_context: What `backward` needs, likewise.
    """
    full_name = f"{NAMESPACE}::{name}"
    torch.library.define(full_name, schema)
    if fake is not None:
        torch.library.register_fake(full_name, fake)
    if name.endswith("_backward"):
        backward = _refuse_to_differentiate(full_name)
    if backward is not None:
        torch.library.register_autograd(full_name, backward, setup_context=setup_context)


def _refuse_to_differentiate(name: str) -> Callable[..., None]:
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(f"{name} cannot be differentiated: use backend='torch'")

    return backward


def kept_size(save: bool) -> int | torch.SymInt:
    """For fake kernels: the size of what only the kernel knows how much it keeps; 0 for nothing."""
    return torch.library.get_ctx().new_dynamic_size() if save else 0


def gradients_like(tensors: Iterable[Tensor], wanted: Iterable[bool]) -> tuple[Tensor, ...]:
    """For fake kernels: a gradient like each tensor, [0] where it is not wanted."""
    return tuple(
        tensor.new_empty(tensor.shape if want else (0,))
        for tensor, want in zip(tensors, wanted, strict=True)
    )


def wanted_only(
    gradients: Iterable[Tensor], wanted: Sequence[bool], inputs: int
) -> tuple[Tensor | None, ...]:
    """What a `backward` returns: the gradients that are wanted, None for all other inputs."""
    found = [grad if want else None for grad, want in zip(gradients, wanted, strict=True)]
    return (*found, *[None] * (inputs - len(found)))


def update_tensor(op: str, update: int | Tensor, **like: Tensor) -> Tensor:
    """The number of an update as operators take it: an int64 scalar on the device of `like`.

    Raises:
        TypeError: A tensor of another dtype.
        ValueError: A number outside 0 .. 2**32 - 1, a tensor of another shape or device.
    """
    if isinstance(update, Tensor):
        check_tensor(op, "update", update, torch.int64, 0)
        check_same_device(op, **like, update=update)
        return update
    check_update("update", update)
    # Not torch.tensor(), which would wait for a GPU.
    return torch.full((), update, dtype=torch.int64, device=next(iter(like.values())).device)


def signed_seed(seed: int) -> int:
    """The same 64 bits as a signed integer, which is what operators can be given.

    Raises:
        ValueError: The seed is not in -2**63 .. 2**64 - 1.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be a 64-bit integer, got {seed}")
    return seed - 2**64 if seed >= 2**63 else seed


def check_update(name: str, value: int) -> None:
    """A counter of updates or batches has 32 bits.

    Raises:
        ValueError: The value is outside 0 .. 2**32 - 1.
    """
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be in 0..2^32-1, got {value}")


def require_tensor(op: str, name: str, value: object) -> None:
    """Refuse what is no tensor.

    Raises:
        TypeError: It is not one.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")


def check_tensor(
    op: str, name: str, tensor: Tensor, dtypes: torch.dtype | tuple[torch.dtype, ...], dims: int
) -> None:
    """Check dtype and number of dimensions.

    Raises:
        TypeError: Not a tensor, or another dtype.
        ValueError: Another number of dimensions.
    """
    allowed = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    require_tensor(op, name, tensor)
    if tensor.dtype not in allowed:
        wanted = " or ".join(str(dtype) for dtype in allowed)
        raise TypeError(f"{op}: {name} must be {wanted}, got {tensor.dtype}")
    if tensor.dim() != dims:
        shape = list(tensor.shape)
        raise ValueError(f"{op}: {name} must have {dims} dimension(s), got shape {shape}")


def check_same_device(op: str, **tensors: Tensor) -> None:
    """Check that all tensors live on one device.

    Raises:
        ValueError: They do not.
    """
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        places = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"{op}: all tensors must be on one device, got {places}")
