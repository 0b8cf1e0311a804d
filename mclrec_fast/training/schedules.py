"""One training batch: which weights move, on which objective, in which order (Algorithm 1).

Three schedules: `paper` (encoder, augmenters), `official` (encoder, augmenters, encoder again: what
the authors' code does) and `joint` (everything at once). Every update draws its own dropout.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..model import MCLRec
from ..model.objective import (
    ContrastLosses,
    augmenter_objective,
    contrast_losses,
    encoder_objective,
    recommendation_loss,
)
from ..ops import PackedSequences
from .adam import Adam

_UPDATES = {"joint": 1, "paper": 2, "official": 3}


class TrainingStep:
    """The updates of one batch, with the optimizers they keep.

    Two dense Adam optimizers (no weight decay), one for the encoder and one for the augmenters; the
    encoder's keeps a single state over both of its updates in the official schedule. A model
    without augmenters has one update whatever the schedule.

    Attributes:
        updates_per_batch: how many update numbers one call uses.
        uses_views: whether the call needs augmented views beside the histories.
    """

    def __init__(self, model: MCLRec, config: Config) -> None:
        """Prepare the optimizers of ``model``."""
        self.model = model
        self.config = config
        self._augmenters: tuple[Any, Any] | None = None
        augmenter_weights: list[Tensor] = []
        if model.augmenter_1 is not None and model.augmenter_2 is not None:
            self._augmenters = (model.augmenter_1, model.augmenter_2)
            augmenter_weights = list(nn.ModuleList(self._augmenters).parameters())
        self.updates_per_batch = (
            _UPDATES[config.train.schedule] if self._augmenters is not None else 1
        )
        self.uses_views = self._augmenters is not None or config.contrast.lambda_ != 0
        rate = config.train.learning_rate
        self._encoder_optimizer = Adam(model.encoder.weights(), rate)
        self._augmenter_optimizer = Adam(augmenter_weights, rate) if augmenter_weights else None

    def __call__(
        self, views: PackedSequences, targets: Tensor, *, update: int
    ) -> dict[str, Tensor]:
        """Make all updates of one batch.

        Args:
            views: the B histories, their first views and their second views (3B rows); the
                histories alone (B rows) where `uses_views` is false.
            targets: int64 [B], the items to predict.
            update: number of the first update; the call uses `updates_per_batch` of them.

        Returns:
            The losses of the batch by name, detached scalars: `rec`, `cl1`, `cl2`, `reg` and
            `encoder` (L0) of the first update, `augmenter` (L1) of the second and `encoder_again`
            (L0) of the third, where the schedule has them.
        """
        joint = self.updates_per_batch == 1
        losses = self._update_encoder(views, targets, update, with_augmenters=joint)
        if not joint:
            losses["augmenter"] = self._update_augmenters(views, targets, update + 1)
        if self.updates_per_batch == 3:
            again = self._update_encoder(views, targets, update + 2, with_augmenters=False)
            losses["encoder_again"] = again["encoder"]
        return losses

    def _update_encoder(
        self,
        views: PackedSequences,
        targets: Tensor,
        update: int,
        *,
        with_augmenters: bool,
    ) -> dict[str, Tensor]:
        """Move the encoder down L0; ``with_augmenters`` (joint) moves the augmenters too."""
        encoder, backend = self.model.encoder, self.config.train.backend
        batch = len(targets)
        h = encoder(views, seed=self.config.train.seed, update=update, backend=backend)  # [3B, D]
        rec = recommendation_loss(h[:batch], encoder.item_embedding.weight, targets, backend)
        zero = rec.new_zeros(())
        terms = ContrastLosses(zero, zero, zero)
        if self.uses_views:
            h1, h2 = h[batch : 2 * batch], h[2 * batch :]
            terms = contrast_losses(h1, h2, self._augmenters, self.config.contrast, backend)
        objective = encoder_objective(rec, terms, self.config.contrast)
        optimizers = [self._encoder_optimizer]
        if with_augmenters and self._augmenter_optimizer is not None:
            optimizers.append(self._augmenter_optimizer)
        _move(optimizers, objective)
        return {
            "rec": rec.detach(),
            "cl1": terms.cl1.detach(),
            "cl2": terms.cl2.detach(),
            "reg": terms.regulariser.detach(),
            "encoder": objective.detach(),
        }

    def _update_augmenters(self, views: PackedSequences, targets: Tensor, update: int) -> Tensor:
        """Move the augmenters down L1, on the two views encoded anew by the fixed encoder."""
        batch, train = len(targets), self.config.train
        with torch.no_grad():
            h = self.model.encoder(
                views.rows(batch, 3 * batch),
                seed=train.seed,
                update=update,
                backend=train.backend,
            )  # [2B, D]
        h1, h2 = h[:batch], h[batch:]
        terms = contrast_losses(h1, h2, self._augmenters, self.config.contrast, train.backend)
        objective = augmenter_objective(terms, self.config.contrast)
        assert self._augmenter_optimizer is not None
        _move([self._augmenter_optimizer], objective)
        return objective.detach()

    def state_dict(self) -> dict[str, Any]:
        """The state of both optimizers."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name])

    def _optimizers(self) -> dict[str, Adam]:
        named = {
            "encoder": self._encoder_optimizer,
            "augmenter": self._augmenter_optimizer,
        }
        return {name: optimizer for name, optimizer in named.items() if optimizer is not None}


def _move(optimizers: Sequence[Adam], objective: Tensor) -> None:
    """Move these optimizers' weights down the objective, the rest of the model being fixed.

    Only their gradients are computed; a weight the objective does not reach gets zeros.
    """
    weights = [weight for optimizer in optimizers for weight in optimizer.weights]
    gradients = torch.autograd.grad(objective, weights, materialize_grads=True)
    for optimizer in optimizers:
        count = len(optimizer.weights)
        optimizer.step(gradients[:count])
        gradients = gradients[count:]
