"""One training batch: the updates that a model names, each with the optimizers of what it moves.

Gradients come from the model's kernels where it is as this package wrote it, and else from autograd
over its Python. Every update draws its own dropout. Which updates there are is the model's.
"""

from contextlib import AbstractContextManager
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..config import TrainConfig
from ..models.base import Batch, Losses, Model, Pass, Update
from ..models.table_gradient import TableGradient
from ..parallel import ALONE, Group, Share
from .adam import Adam
from .averaging import WeightAverage


class TrainingStep:
    """The updates of one batch, with the optimizers they keep.

    One dense Adam (no weight decay) for each group of weights; a group that moves twice in a batch
    keeps a single state.

    Attributes:
        model: what is trained.
        updates_per_batch: how many update numbers one call uses.
        average: the running average of the weights, where the settings want one.
        share: this process's share of every batch.
        note: why a model that has kernels is trained without them; None where it is not.
    """

    def __init__(self, model: Model, train: TrainConfig, group: Group = ALONE) -> None:
        """Prepare the optimizers of ``model``, which these processes train together."""
        self.model = model
        self._by_hand, self.note = model.by_hand(train.backend)
        groups = model.groups()
        self._moving = {
            name: [w.requires_grad for w in weights] for name, weights in groups.items()
        }
        self._groups = {
            name: list(compress(weights, self._moving[name])) for name, weights in groups.items()
        }
        self._optimizers = {
            name: Adam(weights, train.learning_rate, native=self._by_hand)
            for name, weights in self._groups.items()
            if weights
        }
        self._updates = model.updates()
        self.updates_per_batch = len(self._updates)
        self._seed, self._backend = train.seed, train.backend
        parts = max(train.batch_parts, group.size) if self._by_hand else group.size
        self.share = Share(parts, group, train.negatives, divisible=self._by_hand)
        # One part's gradient is used up before the next update. A GPU clears its memory in no time.
        kept = self._by_hand and parts == 1 and model.device.type == "cpu"
        self._table = TableGradient() if kept else None
        self.average = (
            WeightAverage(list(model.parameters()), train.ema_decay) if train.ema_decay else None
        )

    def __call__(self, batch: Batch, *, update: int | Tensor) -> Losses:
        """Make all updates of one batch.

        Args:
            batch: what `Model.sample` made.
            update: number of the first update; the call uses `updates_per_batch` of them. A number,
                or an int64 scalar on the device, see `ops.encode`.

        Returns:
            The losses of the batch by name, detached scalars: the first update's terms, and every
            update's objective under the update's name.
        """
        losses: Losses = {}
        for number, of in enumerate(self._updates):
            at = Pass(self._seed, update + number, self._backend, self.share, table=self._table)
            gradients: list[Tensor] = []
            if of.in_one is not None and self._moved_in_one(of):
                moments = [self._optimizers[group].moments() for group in of.groups]
                found = of.in_one(batch, at, moments)
            else:
                found, gradients = self._differentiate(of, batch, at)
            total = found.pop("total")
            losses |= {name: loss for name, loss in found.items() if not number}
            losses[of.name] = total
            for group in of.groups:
                optimizer = self._optimizers.get(group)
                if optimizer is not None and gradients:
                    optimizer.step(gradients[: len(optimizer.weights)])
                    gradients = gradients[len(optimizer.weights) :]
        if self.average is not None:
            self.average.update()
        return losses

    def threads(self) -> AbstractContextManager[None]:
        """While entered, a batch's kernels take the threads that suit them: to sample and step in.

        Those of the package's own where kernels do everything, else torch's.
        """
        return _native.helpers(self._by_hand and self.average is None)

    def _moved_in_one(self, of: Update) -> bool:
        """Whether an update that can be one call is one here: of whole batches, all weights."""
        return (
            self._by_hand
            and self.share.parts == 1
            and all(group in self._optimizers for group in of.groups)
            and all(self._optimizers[group].native for group in of.groups)
            and all(all(self._moving[group]) for group in of.groups)
        )

    def _differentiate(self, of: Update, batch: Batch, at: Pass) -> tuple[Losses, list[Tensor]]:
        """The losses of an update, detached, and a gradient of each weight that it moves."""
        weights = [weight for group in of.groups for weight in self._groups[group]]
        if weights and self._by_hand and of.by_hand is not None:
            losses, by_hand = of.by_hand(batch, at)
            moving = [moves for group in of.groups for moves in self._moving[group]]
            return losses, [g for g, moves in zip(by_hand, moving, strict=True) if moves]
        parts, names = self.share.split(batch), list[str]()

        def of_part(number: int) -> tuple[list[Tensor], list[Tensor]]:
            own, place = parts[number]
            gradients: tuple[Tensor, ...] = ()
            with torch.set_grad_enabled(bool(weights)):  # all frozen: only something to say
                losses = of.objective(own, at._replace(place=place))
            if weights:
                gradients = torch.autograd.grad(losses["total"], weights, materialize_grads=True)
            names[:] = losses
            return [loss.detach() for loss in losses.values()], list(gradients)

        scalars, found = self.share.sum(parts, of_part)
        return dict(zip(names, scalars, strict=True)), found

    def set_learning_rate(self, rate: float) -> None:
        """From the next update on, for every optimizer."""
        for optimizer in self._optimizers.values():
            optimizer.learning_rate = rate

    def state_dict(self) -> dict[str, Any]:
        """The state of all optimizers, and of the average."""
        state = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        return state | ({"average": self.average.state_dict()} if self.average else {})

    def carry(self, state: dict[str, Any]) -> None:
        """Begin with the optimizers' state of another training of these weights, see `Adam`.

        A running average begins anew, from the weights as they are.
        """
        for name, optimizer in self._optimizers.items():
            optimizer.carry(state[name])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
