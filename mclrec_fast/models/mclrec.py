"""MCLRec: an encoder and two learnable augmenters, each trained with the other fixed.

Both of its paths: objectives that autograd differentiates (`_encoder_objective`,
`_augmenter_objective`), and the same with their gradients by hand, one chain of kernels forward and
one backward (`_Kernels`). Source: Qin et al., SIGIR 2023, and their code where it differs.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..sampling import SampleTable
from .augmenter import Augmenter
from .base import Batch, Losses, Pass, Update
from .encoder import ENCODER_KERNELS, Encoded, EncoderModel
from .objective import (
    ContrastLosses,
    augmenter_objective,
    contrast_losses,
    encoder_objective,
)
from .options import MCLRecOptions
from .stock import stock
from .views import sample_views

_OPS = torch.ops.mclrec_fast


@stock
class MCLRec(EncoderModel):
    """See `base.Model` for what it can do, and `MCLRecOptions` for what it can be told."""

    Options = MCLRecOptions
    kernels = (
        *ENCODER_KERNELS,
        "augmenter",
        "augmenter_backward",
        "contrast",
        "contrast_backward",
    )
    only_for_training = ("augmenter_1.", "augmenter_2.")
    options: MCLRecOptions

    def build(self, n_classes: int) -> None:
        """Create the encoder and the augmenters w1 and w2, one module when they are shared."""
        super().build(n_classes)
        hidden = self.options.hidden_size
        self.augmenter_1 = Augmenter(hidden)
        self.augmenter_2 = self.augmenter_1 if self.options.shared_augmenter else Augmenter(hidden)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The encoder's weights and the augmenters', those of a shared one once."""
        augmenters = nn.ModuleList([self.augmenter_1, self.augmenter_2])
        return {
            "encoder": list(self.encoder.parameters()),
            "augmenter": list(augmenters.parameters()),
        }

    def sample(self, table: SampleTable, index: Tensor, at: Pass) -> Batch:
        """Histories and both views of each, 3B sequences."""
        return sample_views(table, index, at, self.options)

    def views(self, batch: Batch, at: Pass) -> dict[str, Tensor]:
        """Both encoded views, and what the augmenters make of them."""
        h1, h2 = self.represent(batch.views(), at).chunk(2)
        z1, z2 = self.augmenter_1(h1, at.backend), self.augmenter_2(h2, at.backend)
        return {"h1": h1, "h2": h2, "z1": z1, "z2": z2}

    def updates(self) -> list[Update]:
        """The stages of Algorithm 1.

        `paper` alternates them, `official` repeats the first behind the second, as the authors'
        code does, and `joint` (MCLRec-J) makes one of them.
        """
        kernels = _Kernels(self)
        encoder = Update(
            "encoder",
            ("encoder",),
            self._encoder_objective,
            partial(kernels.encoder_objective, with_augmenters=False),
        )
        augmenter = Update(
            "augmenter", ("augmenter",), self._augmenter_objective, kernels.augmenter_objective
        )
        if self.options.schedule == "joint":
            together = partial(kernels.encoder_objective, with_augmenters=True)
            return [encoder._replace(groups=("encoder", "augmenter"), by_hand=together)]
        if self.options.schedule == "paper":
            return [encoder, augmenter]
        return [encoder, augmenter, encoder._replace(name="encoder_again")]

    def _encoder_objective(self, batch: Batch, at: Pass) -> Losses:
        """L0 of the histories and their views."""
        h0, h1, h2 = self.represent(batch.sequences, at).chunk(3)
        rec = self.loss(h0, self.items(), batch.targets, at)
        terms = self._contrast(h1, h2, at)
        total = encoder_objective(rec, terms, self.options)
        return {"rec": rec, **terms._asdict(), "total": total}

    def _augmenter_objective(self, batch: Batch, at: Pass) -> Losses:
        """L1 of the views, encoded anew by the fixed encoder."""
        with torch.no_grad():
            h1, h2 = self.represent(batch.views(), at).chunk(2)
        return {"total": augmenter_objective(self._contrast(h1, h2, at), self.options)}

    def _contrast(self, h1: Tensor, h2: Tensor, at: Pass) -> ContrastLosses:
        augmenters = (self.augmenter_1, self.augmenter_2)
        return contrast_losses(h1, h2, augmenters, self.options, at.backend)


class _Kernels:
    """The gradients of both objectives by hand.

    What the methods return are inference tensors: good to move weights by and to be read, not to be
    differentiated.
    """

    def __init__(self, model: MCLRec) -> None:
        """For this model; the constants of the objectives are made once."""
        self._encoder, self._options, self._loss = model.encoder, model.options, model.loss
        self._weights_1, self._weights_2 = (
            list(augmenter.parameters()) for augmenter in (model.augmenter_1, model.augmenter_2)
        )
        lambda_, beta, gamma = (
            model.items().new_tensor(value)
            for value in (self._options.lambda_, self._options.beta, self._options.gamma)
        )
        # What each term counts in L0 and in L1, where no augmenter can change L_cl1.
        self._in_encoder = ContrastLosses(lambda_, beta, beta * gamma)
        self._in_augmenters = ContrastLosses(torch.zeros_like(beta), torch.ones_like(beta), gamma)

    @torch.inference_mode()
    def encoder_objective(
        self, batch: Batch, at: Pass, *, with_augmenters: bool
    ) -> tuple[Losses, list[Tensor]]:
        """L0, and gradients of the encoder's weights, and then the augmenters' if wanted."""
        size = len(batch.targets)
        seen = Encoded.by_kernels(
            self._encoder, batch.sequences, at.seed, at.update, save=True
        )  # [3B, D]
        rec, grad_h, grad_items = self._loss.by_hand(
            seen.h[:size], seen.weights[0], batch.targets, at
        )
        terms, grad_views, of_augmenters = self._contrast(
            seen.h[size:], self._in_encoder, of_views=True, of_augmenters=with_augmenters
        )
        gradients = seen.gradients(torch.cat((grad_h, *grad_views)), grad_items)
        total = encoder_objective(rec, terms, self._options)
        return {"rec": rec, **terms._asdict(), "total": total}, gradients + of_augmenters

    @torch.inference_mode()
    def augmenter_objective(self, batch: Batch, at: Pass) -> tuple[Losses, list[Tensor]]:
        """L1, and gradients of the augmenters' weights."""
        seen = Encoded.by_kernels(
            self._encoder, batch.views(), at.seed, at.update, save=False
        )  # [2B, D]
        terms, _, gradients = self._contrast(
            seen.h, self._in_augmenters, of_views=False, of_augmenters=True
        )
        return {"total": augmenter_objective(terms, self._options)}, gradients

    def _contrast(
        self, h: Tensor, factors: ContrastLosses, *, of_views: bool, of_augmenters: bool
    ) -> tuple[ContrastLosses, tuple[Tensor, ...], list[Tensor]]:
        """The terms, and the gradients of their weighted sum.

        Args:
            h: the encoded views, [2B, D], first views first.
            factors: scalars, what each term counts.
            of_views: whether the views' gradients are wanted, the paths through the augmenters
                included.
            of_augmenters: whether those of the augmenters' weights are.

        Returns:
            The terms; the gradients of h1 and h2, [B, D] each; the augmenters' gradients.
        """
        options, (h1, h2) = self._options, h.chunk(2)
        temperature, cosine = options.temperature, options.similarity == "cos"
        with_cl1 = options.lambda_ != 0
        weights_1, weights_2 = self._weights_1, self._weights_2
        z1, kept_1 = _OPS.augmenter.default(h1, *weights_1, True)
        z2, kept_2 = _OPS.augmenter.default(h2, *weights_2, True)
        *terms, values, indices = _OPS.contrast.default(
            h1, h2, z1, z2, temperature, cosine, with_cl1, True
        )
        grad_h1, grad_h2, grad_z1, grad_z2 = _OPS.contrast_backward.default(
            *factors, h1, h2, z1, z2, values, indices, temperature, cosine, with_cl1,
            of_views, of_views, True, True,
        )  # fmt: skip
        through_1, *grads_1 = _OPS.augmenter_backward.default(
            grad_z1, h1, *weights_1, z1, kept_1, of_views, of_augmenters
        )
        through_2, *grads_2 = _OPS.augmenter_backward.default(
            grad_z2, h2, *weights_2, z2, kept_2, of_views, of_augmenters
        )
        grad_views = (grad_h1.add_(through_1), grad_h2.add_(through_2)) if of_views else ()
        if not of_augmenters:
            gradients = []
        elif options.shared_augmenter:
            gradients = [a + b for a, b in zip(grads_1, grads_2, strict=True)]
        else:
            gradients = grads_1 + grads_2
        return ContrastLosses(*terms), grad_views, gradients
