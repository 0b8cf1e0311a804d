"""Finds what would make the host wait for a GPU, on any device.

Every such wait in plain torch goes through an operator whose result depends on values: reading a
scalar, counting what is not zero, copying from one device to another. `no_waiting()` makes them
errors where no GPU (and so no `torch.cuda.set_sync_debug_mode`) is at hand.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_WAITING = {
    aten._local_scalar_dense,
    aten.equal,
    aten.is_nonzero,
    aten.item,
    aten.masked_select,
    aten.nonzero,
    aten.unique_dim,
    aten._unique2,
    aten.unique_consecutive,
    aten.bincount,
}


class Waiting(AssertionError):
    """The host would have waited for the device."""


class _NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        packet = func.overloadpacket
        if packet in _WAITING or (packet in _BY_ARGUMENTS and _BY_ARGUMENTS[packet](args, kwargs)):
            raise Waiting(f"{func} waits for the device")
        return func(*args, **kwargs)


def _boolean_index(args: tuple[Any, ...], _: Mapping[str, Any]) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _unknown_output_size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return kwargs.get("output_size") is None


def _between_devices(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    devices = {tensor.device for tensor in tensors} | {kwargs.get("device") or tensors[0].device}
    return len(devices) > 1


_BY_ARGUMENTS: dict[Any, Callable[[tuple[Any, ...], Mapping[str, Any]], bool]] = {
    aten.index: _boolean_index,
    aten.index_put_: _boolean_index,
    aten.repeat_interleave: _unknown_output_size,
    aten._to_copy: _between_devices,
    aten.copy_: _between_devices,
}


def no_waiting() -> TorchDispatchMode:
    """A context in which an operator that waits for its device raises `Waiting`."""
    return _NoWaiting()
