"""L_rec: the losses of representations against the catalogue, one file each, chosen by `loss`.

To add one, write a file with a `Loss` in it and add its line here. Holds no torch, so that a
command line can say what there is at once.
"""

import functools
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Loss

LOSSES = {
    "softmax": "exact cross-entropy over all item classes",
    "sampled_softmax": "cross-entropy over drawn items, with the log-Q correction",
    "gbce": "generalised binary cross-entropy over drawn items",
}
"""Every loss by its name, the name of its file; the first is the default."""


@functools.cache
def find_loss(name: str) -> "Loss":
    """The loss of that name, one of `LOSSES`."""
    loss: Loss = import_module(f".{name}", __name__).LOSS
    return loss
