"""What a CUDA graph does, on any device: operators are recorded once and replayed as they were.

As in a real one, capturing computes nothing (what the recorded operators change is put back), and a
replay repeats every number among the arguments and reads every tensor where it lay at the capture.
The launches are those of torch's operators; what Python did between them is not repeated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_Result = TypeVar("_Result")


def capture(function: Callable[[], _Result]) -> tuple[Callable[[], None], _Result]:
    """In the place of `training.graphs.capture`."""
    recorder = _Recorder()
    with recorder:
        result = function()
    recorder.put_back()
    return recorder.replay, result


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self._own: set[int] = set()  # storages that came into being inside
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # what was changed, and its old values

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in _tensors(given.get(argument.name)):
                    self._keep(tensor)
        result = func(*args, **kwargs)
        aliases = any(returned.alias_info is not None for returned in func._schema.returns)
        if not aliases:  # views and changes in place lie where their arguments do
            self._own.update(tensor.untyped_storage().data_ptr() for tensor in _tensors(result))
        self._calls.append((func, args, kwargs, [] if aliases else list(_tensors(result))))
        return result

    def _keep(self, tensor: Tensor) -> None:
        if tensor.untyped_storage().data_ptr() not in self._own:
            self._before.setdefault(id(tensor), (tensor, tensor.detach().clone()))

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo what the recording changed."""
        for tensor, old in self._before.values():
            tensor.copy_(old)

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operators again, each result to where the first one lies."""
        for func, args, kwargs, places in self._calls:
            for place, value in zip(places, _tensors(func(*args, **kwargs)), strict=bool(places)):
                place.copy_(value)
