"""Weights that a training leaves as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..errors import InputError
from .base import Model


def item_table(model: Model) -> nn.Parameter | None:
    """The weight that is the model's item table; None where that is not a weight itself."""
    items = model.items()
    return next((weight for weight in model.parameters() if weight is items), None)


@contextmanager
def frozen(model: Model, which: str) -> Iterator[None]:
    """While entered, some weights do not move.

    Args:
        model: it has weights, unless nothing is frozen.
        which: "none"; "items", the item table; "others", all but that.

    Raises:
        InputError: the model's item table is no weight of its own.
    """
    if which == "none":
        yield
        return
    table = item_table(model)
    if table is None:
        raise InputError(f"freeze {which}: {type(model).__name__} has no item table to train")
    stay = [w for w in model.parameters() if (w is table) == (which == "items") and w.requires_grad]
    for weight in stay:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in stay:
            weight.requires_grad_(True)
