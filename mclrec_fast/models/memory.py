"""Whether a model's weights fit into this machine, asked before any of them is made.

What training needs beside them (gradients, two moments, a batch) is not counted.
"""

import os
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from ..errors import InputError

if TYPE_CHECKING:
    from .base import Model

_SIZES = ("hidden_size", "inner_size", "max_length", "layers")
_DRAWS = {"normal_", "trunc_normal_", "uniform_"}


class _NoDraws(TorchFunctionMode):
    """Initial values are not drawn: for a meta tensor torch imports its compiler to draw none."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.__name__ in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def weights_without_memory(model: "Model", n_classes: int) -> dict[str, torch.Tensor]:
    """The weights of a model for V item classes as meta tensors: shapes and dtypes alone.

    Raises:
        RuntimeError: it cannot be built that way, or a size overflows.
    """
    with torch.device("meta"), _NoDraws():
        model.build(n_classes)
    return model.state_dict()


def require_memory(model: "Model", n_classes: int) -> None:
    """Refuse options whose weights alone are more than all memory.

    Args:
        model: one without weights, to be thrown away.
        n_classes: item classes, padding included (V).

    Raises:
        InputError: naming the sizes.
    """
    try:
        weights = weights_without_memory(model, n_classes).values()
        gib = sum(t.numel() * t.element_size() for t in weights) / 2**30
    except RuntimeError as error:
        if "overflow" not in str(error):
            return  # one that cannot be built without memory
        gib = 2.0**33
    memory = memory_gib()
    if memory is not None and gib > memory:
        options = [(name, getattr(model.options, name, None)) for name in _SIZES]
        said = ", ".join(f"{name} = {value}" for name, value in options if value is not None)
        raise InputError(
            f"a {model.options.name} with {said} for {n_classes - 1} items takes more than "
            f"{memory:.0f} GiB, all the memory of this machine, for its weights alone: make "
            "hidden_size, inner_size or max_length smaller"
        )


def memory_gib() -> float | None:
    """The memory of this machine; None where it cannot be asked."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None
