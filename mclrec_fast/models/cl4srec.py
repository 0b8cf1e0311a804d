"""CL4SRec: SASRec's encoder, and the contrast of two stochastic views of each history.

Source: Xie et al., *Contrastive Learning for Sequential Recommendation*, ICDE 2022.
"""

import torch
from torch import Tensor

from ..ops import info_nce
from ..sampling import SampleTable
from .base import Batch, Losses, Pass, Update
from .contrasted import Contrast, Contrasted, Sums
from .encoder import ENCODER_KERNELS, EncoderModel, encode_parts
from .options import CL4SRecOptions
from .stock import stock
from .views import sample_views

_OPS = torch.ops.mclrec_fast


@stock
class CL4SRec(EncoderModel):
    """See `base.Model` for what it can do, and `CL4SRecOptions` for what it can be told."""

    Options = CL4SRecOptions
    kernels = (*ENCODER_KERNELS, "info_nce", "info_nce_backward")
    options: CL4SRecOptions

    def sample(self, table: SampleTable, index: Tensor, at: Pass) -> Batch:
        """Histories and both views of each, 3B sequences."""
        return sample_views(table, index, at, self.options)

    def views(self, batch: Batch, at: Pass) -> dict[str, Tensor]:
        """Both encoded views."""
        h1, h2 = self.represent(batch.views(), at).chunk(2)
        return {"h1": h1, "h2": h2}

    def updates(self) -> list[Update]:
        """One, of everything."""
        return [Update("encoder", ("encoder",), self.objective, self.objective_by_hand)]

    def objective(self, batch: Batch, at: Pass) -> Losses:
        """L_rec + lambda L_cl1."""
        h0, h1, h2 = self.represent(batch.sequences, at).chunk(3)
        rec = self.loss(h0, self.items(), batch.targets, at)
        cl1 = info_nce(
            *at.share.everyones(at.place, h1, h2),
            temperature=self.options.temperature,
            similarity=self.options.similarity,
            backend=at.backend,
        )
        return {"rec": rec, "cl1": cl1, "total": rec + self.options.lambda_ * cl1}

    @torch.inference_mode()
    def objective_by_hand(self, batch: Batch, at: Pass) -> tuple[Losses, list[Tensor]]:
        """The same with the gradient of each weight, by kernels."""
        parts, lambda_ = at.share.split(batch), self.options.lambda_
        seen = encode_parts(self.encoder, parts, at, lambda own: own.sequences, save=True)
        sizes = [len(part.batch.targets) for part in parts]
        views = [of.h[size:] for of, size in zip(seen, sizes, strict=True)]

        def rec_of(number: int, grad_views: Tensor | None) -> Sums:
            of, own, size = seen[number], parts[number].batch, sizes[number]
            rec, grad_h, grad_items = self.loss.by_hand(
                of.h[:size], of.weights[0], own.targets, at._replace(place=parts[number].place)
            )
            assert grad_views is not None
            return [rec], of.gradients(torch.cat((grad_h, grad_views)), grad_items)

        contrasted = Contrasted(at.share, parts, views, self._contrast)
        (rec, cl1), gradients = contrasted.sum(rec_of)
        return {"rec": rec, "cl1": cl1, "total": rec + lambda_ * cl1}, gradients

    def _contrast(self, views: Tensor) -> Contrast:
        """L_cl1 of views [2B, D], and the gradient of lambda L_cl1."""
        options, (h1, h2) = self.options, views.chunk(2)
        cosine = options.similarity == "cos"
        cl1, saved = _OPS.info_nce.default(h1, h2, options.temperature, cosine, True)
        gradients = _OPS.info_nce_backward.default(
            cl1.new_tensor(options.lambda_), h1, h2, saved, options.temperature, cosine, True, True
        )
        return Contrast([cl1], torch.cat(gradients), [])
