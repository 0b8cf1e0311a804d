"""Models: one file each, with its weights, its batch, and its updates by autograd and by kernels.

What a model is told stands in options.py. To add one: its options there, and a file of its name
here that holds a subclass of `base.Model`. Knows nothing of training, runs and command lines.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .options import OPTIONS

if TYPE_CHECKING:
    from .base import Model


def model_class(name: str) -> type["Model"]:
    """The class of the model of that name, one of `OPTIONS`."""
    module = import_module(f".{name}", __name__)
    found: type[Model] = getattr(module, OPTIONS[name].__name__.removesuffix("Options"))
    return found
