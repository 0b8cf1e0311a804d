"""A batch's updates as one CUDA graph: captured once, replayed for every later batch.

On a GPU the two to three hundred small launches of a batch take longer to issue than to run; a
graph issues them as one. It repeats them exactly, arguments included, so what differs from batch to
batch lies in memory: the batch itself, and the number of its first update, which the draws of the
dropout depend on. Same kernels, same order, same draws: the bits are those of training without it.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from .. import _native
from ..config import TrainConfig
from ..errors import RunError
from ..models.base import Batch, Losses, Model
from ..ops import PackedSequences
from ..parallel import ALONE, Group
from . import learning_rate
from .step import TrainingStep

WARM_UP = 3
"""Batches trained before the capture: libraries and allocators set themselves up in them."""

_Result = TypeVar("_Result")


def training_step(model: Model, train: TrainConfig, group: Group = ALONE) -> TrainingStep:
    """The updates of a batch as the settings want them: as a graph where that is possible.

    A graph holds its step size and what it averages: where these change, there is none, nor where
    several processes exchange something.
    """
    native = _native.backend(train.backend, train.device) == "native"
    fixed = bool(model.kernels) and not learning_rate.changes(train) and not train.ema_decay
    if train.cuda_graphs and train.device == "cuda" and native and fixed and group.size == 1:
        return GraphedStep(model, train)
    return TrainingStep(model, train, group)


class _Captured(NamedTuple):
    """A captured call: where it reads and where it leaves the losses."""

    batch: Batch
    update: Tensor  # int64 [], number of the first update
    replay: Callable[[], None]
    names: tuple[str, ...]  # of the losses
    losses: Tensor  # [number of losses]


class GraphedStep(TrainingStep):
    """A `TrainingStep` that a GPU replays as one graph, for full batches of one token capacity.

    The first `WARM_UP` full batches are trained launch by launch, beside the usual stream as a
    capture wants it; the next one is captured. A batch of any other size is trained as usual. The
    weights and the optimizers' state must stay where they are in memory.
    """

    def __init__(self, model: Model, train: TrainConfig) -> None:
        """Prepare the optimizers of ``model``; nothing is captured yet."""
        super().__init__(model, train)
        self._batch_size = train.batch_size
        self._warm_up = WARM_UP
        self._captured: _Captured | None = None

    def __call__(self, batch: Batch, *, update: int | Tensor) -> Losses:
        """Make all updates of one batch, see `TrainingStep`.

        Raises:
            RunError: the updates cannot be captured.
        """
        if len(batch.targets) != self._batch_size:
            return super().__call__(batch, update=update)
        if self._warm_up > 0:
            self._warm_up -= 1
            ordinary = super().__call__
            return on_a_side_stream(lambda: ordinary(batch, update=update))
        if self._captured is None:
            self._captured = self._capture(batch)
        captured = self._captured
        for place, new in zip(_tensors(captured.batch), _tensors(batch), strict=True):
            place.copy_(new)
        captured.update.fill_(update)
        captured.replay()
        # A copy, as the next replay overwrites the losses.
        return dict(zip(captured.names, captured.losses.clone(), strict=True))

    def _capture(self, batch: Batch) -> _Captured:
        """Record the updates of a batch of this shape; nothing is computed."""
        *sequences, targets = (tensor.clone() for tensor in _tensors(batch))
        places = Batch(PackedSequences(*sequences), targets)
        number = targets.new_zeros(())
        names: tuple[str, ...] = ()
        updates = super().__call__

        def captured() -> Tensor:
            nonlocal names
            losses = updates(places, update=number)
            names = tuple(losses)
            return torch.stack(list(losses.values()))

        try:
            replay, losses = capture(captured)
        except RuntimeError as error:
            raise RunError(
                f"the updates of a batch cannot be captured as a CUDA graph: {error}; "
                "train without it: --no-cuda-graphs"
            ) from error
        return _Captured(places, number, replay, names, losses)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return (*batch.sequences, batch.targets)


def on_a_side_stream(function: Callable[[], _Result]) -> _Result:
    """Call a function with its launches on a stream of their own, in order with the others."""
    usual, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(usual)
    with torch.cuda.stream(aside):
        result = function()
    usual.wait_stream(aside)
    return result


def capture(function: Callable[[], _Result]) -> tuple[Callable[[], None], _Result]:
    """Record a function's launches, which do not run.

    Returns:
        What runs them, and what the function returned: memory that each run fills anew.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph.replay, result
