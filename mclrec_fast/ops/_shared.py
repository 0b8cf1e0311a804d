"""What every op file needs: the library's name, seeds as the dispatcher takes them, and checks.

The checks raise plain `TypeError` and `ValueError`. Kernels check again what would crash them.
"""

from typing import Any

import torch
from torch import Tensor

NAMESPACE = "mclrec_fast"


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


def check_tensor(
    op: str, name: str, tensor: Tensor, dtypes: torch.dtype | tuple[torch.dtype, ...], dims: int
) -> None:
    """Check dtype and number of dimensions.

    Raises:
        TypeError: Not a tensor, or another dtype.
        ValueError: Another number of dimensions.
    """
    allowed = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
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


def refuse_second_derivative(op: str) -> None:
    """Make a derivative of the operator `op`, which computes one itself, an error.

    Without this torch would silently treat its outputs as constants.
    """

    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(f"{NAMESPACE}::{op} cannot be differentiated: use backend='torch'")

    torch.library.register_autograd(f"{NAMESPACE}::{op}", backward)
