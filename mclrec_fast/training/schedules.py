"""One training batch: which weights move, on which objective, in which order (Algorithm 1).

Three schedules: `paper` (encoder, augmenters), `official` (encoder, augmenters, encoder again: what
the authors' code does) and `joint` (everything at once). Every update draws its own dropout.
"""

from typing import Any

from torch import Tensor

from ..config import Config
from ..model import MCLRec
from ..model.gradients import gradients_of
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
        augmenter_weights = model.augmenter_weights()
        self.updates_per_batch = _UPDATES[config.train.schedule] if augmenter_weights else 1
        self.uses_views = bool(augmenter_weights) or config.contrast.lambda_ != 0
        self._gradients = gradients_of(model, config)
        rate = config.train.learning_rate
        self._encoder_optimizer = Adam(model.encoder.weights(), rate)
        self._augmenter_optimizer = Adam(augmenter_weights, rate) if augmenter_weights else None

    def __call__(
        self, views: PackedSequences, targets: Tensor, *, update: int | Tensor
    ) -> dict[str, Tensor]:
        """Make all updates of one batch.

        Args:
            views: the B histories, their first views and their second views (3B rows); the
                histories alone (B rows) where `uses_views` is false.
            targets: int64 [B], the items to predict.
            update: number of the first update; the call uses `updates_per_batch` of them. A number,
                or an int64 scalar on the device, see `ops.encode`.

        Returns:
            The losses of the batch by name, detached scalars: `rec`, `cl1`, `cl2`, `reg` and
            `encoder` (L0) of the first update, `augmenter` (L1) of the second and `encoder_again`
            (L0) of the third, where the schedule has them.
        """
        joint = self.updates_per_batch == 1
        losses = self._update_encoder(views, targets, update, with_augmenters=joint)
        if not joint:
            batch = len(targets)
            losses |= self._update_augmenters(views.rows(batch, 3 * batch), update + 1)
        if self.updates_per_batch == 3:
            again = self._update_encoder(views, targets, update + 2, with_augmenters=False)
            losses["encoder_again"] = again["encoder"]
        return losses

    def _update_encoder(
        self,
        views: PackedSequences,
        targets: Tensor,
        update: int | Tensor,
        *,
        with_augmenters: bool,
    ) -> dict[str, Tensor]:
        """Move the encoder down L0; ``with_augmenters`` (joint) moves the augmenters too."""
        losses, gradients = self._gradients.encoder(
            views, targets, update, with_augmenters=with_augmenters
        )
        count = len(self._encoder_optimizer.weights)
        self._encoder_optimizer.step(gradients[:count])
        if with_augmenters and self._augmenter_optimizer is not None:
            self._augmenter_optimizer.step(gradients[count:])
        return losses

    def _update_augmenters(self, views: PackedSequences, update: int | Tensor) -> dict[str, Tensor]:
        """Move the augmenters down L1, on the views [2B rows] encoded anew by the fixed encoder."""
        losses, gradients = self._gradients.augmenters(views, update)
        assert self._augmenter_optimizer is not None
        self._augmenter_optimizer.step(gradients)
        return losses

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
