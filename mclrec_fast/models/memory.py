"""Whether a model's weights fit into this machine, asked before any of them is made.

What training needs beside them (gradients, two moments, a batch) is not counted.
"""

import os
from typing import TYPE_CHECKING

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from .base import Model

_SIZES = ("hidden_size", "inner_size", "max_length", "layers")


def require_memory(model: "Model", n_classes: int) -> None:
    """Refuse options whose weights alone are more than all memory.

    Args:
        model: one without weights, to be thrown away.
        n_classes: item classes, padding included (V).

    Raises:
        InputError: naming the sizes.
    """
    try:
        with torch.device("meta"):
            model.build(n_classes)
        gib = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 2**30
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
