"""The losses of one update and the gradients that move the weights: what a schedule asks for.

`AutogradGradients` differentiates objective.py with torch and works everywhere; KernelGradients
(kernel_gradients.py) does the same by hand where every op has a kernel. `gradients_of` picks.
"""

from typing import Protocol

import torch
from torch import Tensor

from ..config import Config
from ..ops import PackedSequences
from .kernel_gradients import KernelGradients
from .mclrec import MCLRec
from .objective import (
    ContrastLosses,
    augmenter_objective,
    contrast_losses,
    encoder_objective,
    recommendation_loss,
)


class Gradients(Protocol):
    """The gradients of both objectives at the weights as they are."""

    def encoder(
        self,
        views: PackedSequences,
        targets: Tensor,
        update: int | Tensor,
        *,
        with_augmenters: bool,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Those of L0.

        Args:
            views: the B histories and both views of each (3B rows); the histories alone where
                nothing contrasts the views.
            targets: int64 [B].
            update: number of the update, see `ops.encode`.
            with_augmenters: whether the gradients of the augmenters are wanted too.

        Returns:
            The losses by name, detached scalars: `rec`, `cl1`, `cl2`, `reg` and `encoder` (L0); and
            a gradient of each weight of the encoder, then of the augmenters if wanted.
        """

    def augmenters(
        self, views: PackedSequences, update: int | Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Those of L1, the encoder being fixed.

        Args:
            views: the first views of all histories, then the second (2B rows).
            update: number of the update, see `ops.encode`.

        Returns:
            The loss `augmenter` (L1), and a gradient of each weight of the augmenters.
        """


class AutogradGradients:
    """By `torch.autograd`; a weight that an objective does not reach gets zeros."""

    def __init__(self, model: MCLRec, config: Config) -> None:
        """For this model, with the constants and the backend of this configuration."""
        self._model, self._contrast, self._train = model, config.contrast, config.train

    def encoder(
        self,
        views: PackedSequences,
        targets: Tensor,
        update: int | Tensor,
        *,
        with_augmenters: bool,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """See `Gradients`."""
        encoder, batch = self._model.encoder, len(targets)
        h = self._encode(views, update)
        items = encoder.item_embedding.weight
        rec = recommendation_loss(h[:batch], items, targets, self._train.backend)
        zero = rec.new_zeros(())
        terms = ContrastLosses(zero, zero, zero)
        if len(h) > batch:
            terms = self._contrast_losses(h[batch:])
        objective = encoder_objective(rec, terms, self._contrast)
        losses = {
            "rec": rec,
            "cl1": terms.cl1,
            "cl2": terms.cl2,
            "reg": terms.regulariser,
            "encoder": objective,
        }
        weights = encoder.weights() + (self._model.augmenter_weights() if with_augmenters else [])
        return _detached(losses), _differentiate(objective, weights)

    def augmenters(
        self, views: PackedSequences, update: int | Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """See `Gradients`."""
        with torch.no_grad():
            h = self._encode(views, update)
        objective = augmenter_objective(self._contrast_losses(h), self._contrast)
        gradients = _differentiate(objective, self._model.augmenter_weights())
        return _detached({"augmenter": objective}), gradients

    def _encode(self, views: PackedSequences, update: int | Tensor) -> Tensor:
        train = self._train
        h: Tensor = self._model.encoder(
            views, seed=train.seed, update=update, backend=train.backend
        )
        return h

    def _contrast_losses(self, h: Tensor) -> ContrastLosses:
        h1, h2 = h.chunk(2)
        augmenters, backend = self._model.augmenters, self._train.backend
        return contrast_losses(h1, h2, augmenters, self._contrast, backend)


def _detached(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in losses.items()}


def _differentiate(objective: Tensor, weights: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(objective, weights, materialize_grads=True))


def gradients_of(model: MCLRec, config: Config) -> Gradients:
    """By hand where the backend and the device of this model have all kernels, or by autograd."""
    if KernelGradients.available(config, model.encoder.item_embedding.weight.device):
        return KernelGradients(model, config)
    return AutogradGradients(model, config)
