"""SASRec: the encoder alone, on the cross-entropy over all items (Kang & McAuley, ICDM 2018)."""

import torch
from torch import Tensor

from .base import Batch, Losses, Moments, Pass, Update
from .encoder import ENCODER_KERNELS, Encoded, EncoderModel
from .in_one import InOne
from .options import SASRecOptions
from .stock import stock


@stock
class SASRec(EncoderModel):
    """See `base.Model` for what it can do, and `SASRecOptions` for what it can be told."""

    Options = SASRecOptions
    kernels = ENCODER_KERNELS
    options: SASRecOptions

    def updates(self) -> list[Update]:
        """One, of everything."""
        update = Update("encoder", ("encoder",), self.objective, self.objective_by_hand)
        if not InOne.possible(self):
            return [update]
        call = InOne(self.encoder)

        def in_one(batch: Batch, at: Pass, moments: list[Moments]) -> Losses:
            losses = call(batch.sequences, batch.targets, at, encoder=moments[0])
            return {"rec": losses[0], "total": losses[4]}

        return [update._replace(in_one=in_one)]

    def objective(self, batch: Batch, at: Pass) -> Losses:
        """L_rec."""
        h = self.represent(batch.sequences, at)
        rec = self.loss(h, self.items(), batch.targets, at)
        return {"rec": rec, "total": rec}

    @torch.inference_mode()
    def objective_by_hand(self, batch: Batch, at: Pass) -> tuple[Losses, list[Tensor]]:
        """The same with the gradient of each weight, by kernels."""
        parts = at.share.split(batch)

        def of_part(number: int) -> tuple[list[Tensor], list[Tensor]]:
            own, place = parts[number]
            here = at._replace(place=place)
            seen = Encoded.by_kernels(self.encoder, own.sequences, here, save=True)
            rec, grad_h, grad_items = self.loss.by_hand(seen.h, seen.weights[0], own.targets, here)
            return [rec], seen.gradients(grad_h, grad_items)

        (rec,), gradients = at.share.sum(parts, of_part)
        return {"rec": rec, "total": rec}, gradients
