"""Whether a model is what this package wrote, so that kernels may stand in for its Python.

A model whose class is a subclass, whose methods were replaced, or that has hooks or weights of its
own is trained through autograd over the code that it really has; this file only finds out.
"""

from types import FunctionType
from typing import TypeVar

from torch import nn

_Class = TypeVar("_Class", bound=type[nn.Module])
_METHODS: dict[type, dict[str, object]] = {}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def stock(cls: _Class) -> _Class:
    """Class decorator: remembers the methods that the class is written with."""
    _METHODS[cls] = {name: f for name, f in vars(cls).items() if isinstance(f, FunctionType)}
    return cls


for _part in (nn.Linear, nn.LayerNorm, nn.Embedding, nn.ModuleList):
    stock(_part)


def what_was_changed(model: nn.Module, built: list[str]) -> str | None:
    """The first thing about a model that its kernels do not know of, in words; None if nothing.

    Args:
        model: the model as it is.
        built: names of the weights it was built with.
    """
    for name, module in model.named_modules():
        cls, where = type(module), f"{name or type(model).__name__}"
        if cls not in _METHODS:
            return f"{where} is a {cls.__name__}"
        for owner in cls.__mro__:
            for method, written in _METHODS.get(owner, {}).items():
                if vars(owner).get(method) is not written or method in vars(module):
                    return f"{owner.__name__}.{method} was replaced"
        if any(getattr(module, hooks, None) for hooks in _HOOKS):
            return f"{where} has hooks"
    added = [name for name, _ in model.named_parameters() if name not in built]
    return f"{added[0]} was added" if added else None
