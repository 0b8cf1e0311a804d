"""MCLRec: an encoder and two learnable augmenters, each trained with the other fixed.

Both of its paths: objectives that autograd differentiates (`_encoder_objective`,
`_augmenter_objective`), and the same with their gradients by hand, one chain of kernels forward and
one backward (`_Kernels`). Source: Qin et al., SIGIR 2023, and their code where it differs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ..ops import PackedSequences
from ..parallel import Part
from ..sampling import SampleTable
from .augmenter import Augmenter
from .base import Batch, Losses, Moments, Pass, Update
from .contrasted import Contrast, Contrasted, Sums
from .encoder import ENCODER_KERNELS, Encoded, EncoderModel, encode_parts
from .in_one import InOne
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
_Encoding = TypeVar("_Encoding")


class _Kept(Generic[_Encoding]):
    """What one update encoded, until a later update of the same batch takes it: at most once."""

    def __init__(self) -> None:
        self._kept: tuple[Batch, Pass, _Encoding] | None = None

    def keep(self, batch: Batch, at: Pass, encoding: _Encoding) -> None:
        self._kept = (batch, at, encoding)

    def take(self, batch: Batch, at: Pass) -> _Encoding | None:
        """None unless it was this batch, with these draws.

        Numbers of updates that lie on a device are not compared, which would wait for it.
        """
        kept, self._kept = self._kept, None
        if kept is None or kept[0] is not batch:
            return None
        on_device = isinstance(at.update, Tensor) or isinstance(kept[1].update, Tensor)
        return kept[2] if on_device or kept[1] == at else None


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
        code does, and `joint` (MCLRec-J) makes one of them. With `reuse_views` the third update
        takes the views as the second encoded them: their draws are those of the second.
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
        if InOne.possible(self) and not self.options.reuse_views:
            encoder = encoder._replace(in_one=kernels.encoder_in_one)
            augmenter = augmenter._replace(in_one=kernels.augmenter_in_one)
        if self.options.schedule == "joint":
            together = partial(kernels.encoder_objective, with_augmenters=True)
            return [encoder._replace(groups=("encoder", "augmenter"), by_hand=together)]
        if self.options.schedule == "paper":
            return [encoder, augmenter]
        again = encoder._replace(name="encoder_again")
        if self.options.reuse_views:
            views = _Kept[Tensor]()
            augmenter = augmenter._replace(objective=partial(self._augmenter_objective, keep=views))
            again = again._replace(
                objective=partial(self._reusing_objective, kept=views),
                by_hand=kernels.reusing_objective,
            )
        return [encoder, augmenter, again]

    def _encoder_objective(self, batch: Batch, at: Pass) -> Losses:
        """L0 of the histories and their views."""
        h0, h1, h2 = self.represent(batch.sequences, at).chunk(3)
        return self._encoder_losses(h0, h1, h2, batch, at)

    def _reusing_objective(self, batch: Batch, at: Pass, *, kept: _Kept[Tensor]) -> Losses:
        """L0 of the histories, and of the views as the update before encoded them."""
        before = _update_before(at)
        views = kept.take(batch, before)
        h1, h2 = (self.represent(batch.views(), before) if views is None else views).chunk(2)
        h0 = self.represent(batch.histories(), at)
        return self._encoder_losses(h0, h1, h2, batch, at)

    def _encoder_losses(self, h0: Tensor, h1: Tensor, h2: Tensor, batch: Batch, at: Pass) -> Losses:
        rec = self.loss(h0, self.items(), batch.targets, at)
        terms = self._contrast(h1, h2, at)
        total = encoder_objective(rec, terms, self.options)
        return {"rec": rec, **terms._asdict(), "total": total}

    def _augmenter_objective(
        self, batch: Batch, at: Pass, *, keep: _Kept[Tensor] | None = None
    ) -> Losses:
        """L1 of the views, encoded anew by the fixed encoder; `keep` is given them with a graph."""
        with torch.set_grad_enabled(keep is not None):
            views = self.represent(batch.views(), at)
        if keep is not None:
            keep.keep(batch, at, views)
        h1, h2 = views.detach().chunk(2)
        return {"total": augmenter_objective(self._contrast(h1, h2, at), self.options)}

    def _contrast(self, h1: Tensor, h2: Tensor, at: Pass) -> ContrastLosses:
        augmenters = (self.augmenter_1, self.augmenter_2)
        h1, h2 = at.share.everyones(at.place, h1, h2)
        return contrast_losses(h1, h2, augmenters, self.options, at.backend)


def _update_before(at: Pass) -> Pass:
    return at._replace(update=at.update - 1)


class _Kernels:
    """The gradients of both objectives by hand.

    What the methods return are inference tensors: good to move weights by and to be read, not to be
    differentiated.
    """

    def __init__(self, model: MCLRec) -> None:
        """For this model; the constants of the objectives are made once."""
        self._encoder, self._options, self._loss = model.encoder, model.options, model.loss
        self._views = _Kept[list[Encoded]]()
        self._weights_1, self._weights_2 = (
            list(augmenter.parameters()) for augmenter in (model.augmenter_1, model.augmenter_2)
        )
        lambda_, beta, gamma = (
            model.items().new_tensor(value)
            for value in (self._options.lambda_, self._options.beta, self._options.gamma)
        )
        augmenters = nn.ModuleList([model.augmenter_1, model.augmenter_2])
        self._in_one = InOne(model.encoder, augmenters)
        # What each term counts in L0 and in L1, where no augmenter can change L_cl1.
        self._in_encoder = ContrastLosses(lambda_, beta, beta * gamma)
        self._in_augmenters = ContrastLosses(torch.zeros_like(beta), torch.ones_like(beta), gamma)

    def encoder_in_one(self, batch: Batch, at: Pass, moments: list[Moments]) -> Losses:
        """Move the encoder down L0, and the augmenters with it if moments of theirs are given."""
        losses = self._in_one(
            batch.sequences,
            batch.targets,
            at,
            encoder=moments[0],
            augmenters=moments[1] if len(moments) > 1 else None,
            options=self._options,
        )
        rec, *terms, total = losses.unbind()
        return {"rec": rec, **ContrastLosses(*terms)._asdict(), "total": total}

    def augmenter_in_one(self, batch: Batch, at: Pass, moments: list[Moments]) -> Losses:
        """Move the augmenters down L1."""
        views = batch.views()
        losses = self._in_one(views, None, at, augmenters=moments[0], options=self._options)
        return {"total": losses[4]}

    @torch.inference_mode()
    def encoder_objective(
        self, batch: Batch, at: Pass, *, with_augmenters: bool
    ) -> tuple[Losses, list[Tensor]]:
        """L0, and gradients of the encoder's weights, and then the augmenters' if wanted."""
        parts = at.share.split(batch)
        seen = self._encode(parts, at, lambda own: own.sequences, save=True)  # [3b, D] each
        sizes = [len(part.batch.targets) for part in parts]
        views = [of.h[size:] for of, size in zip(seen, sizes, strict=True)]

        def rec_of(number: int, grad_views: Tensor | None) -> Sums:
            of, size = seen[number], sizes[number]
            rec, grad_h, grad_items = self._rec(of.h[:size], of, parts[number], at)
            assert grad_views is not None
            return [rec], of.gradients(torch.cat((grad_h, grad_views)), grad_items)

        contrast = self._contrasting(self._in_encoder, of_views=True, of_augmenters=with_augmenters)
        scalars, gradients = Contrasted(at.share, parts, views, contrast).sum(rec_of)
        return self._encoder_losses(scalars), gradients

    @torch.inference_mode()
    def reusing_objective(self, batch: Batch, at: Pass) -> tuple[Losses, list[Tensor]]:
        """L0 with the views of the update before, and gradients of the encoder's weights."""
        before, parts = _update_before(at), at.share.split(batch)
        kept = self._views.take(batch, before)
        of_views = kept or self._encode(parts, before, Batch.views, save=True)  # [2b, D] each
        histories = self._encode(parts, at, Batch.histories, save=True)  # [b, D] each

        def rec_of(number: int, grad_views: Tensor | None) -> Sums:
            of = histories[number]
            rec, grad_h, grad_items = self._rec(of.h, of, parts[number], at)
            gradients = of.gradients(grad_h, grad_items)
            assert grad_views is not None
            more = of_views[number].gradients(grad_views, grad_items)
            torch._foreach_add_(gradients[1:], more[1:])  # the item table's is one array
            return [rec], gradients

        contrast = self._contrasting(self._in_encoder, of_views=True, of_augmenters=False)
        views = [of.h for of in of_views]
        scalars, gradients = Contrasted(at.share, parts, views, contrast).sum(rec_of)
        return self._encoder_losses(scalars), gradients

    @torch.inference_mode()
    def augmenter_objective(self, batch: Batch, at: Pass) -> tuple[Losses, list[Tensor]]:
        """L1, and gradients of the augmenters' weights."""
        reused, parts = self._options.reuse_views, at.share.split(batch)
        seen = self._encode(parts, at, Batch.views, save=reused)  # [2b, D] each
        if reused:
            self._views.keep(batch, at, seen)
        contrast = self._contrasting(self._in_augmenters, of_views=False, of_augmenters=True)
        views = [of.h for of in seen]
        terms, gradients = Contrasted(at.share, parts, views, contrast).sum()
        return {"total": augmenter_objective(ContrastLosses(*terms), self._options)}, gradients

    def _encode(
        self,
        parts: Sequence[Part],
        at: Pass,
        which: Callable[[Batch], PackedSequences],
        *,
        save: bool,
    ) -> list[Encoded]:
        return encode_parts(self._encoder, parts, at, which, save=save)

    def _rec(self, h: Tensor, of: Encoded, part: Part, at: Pass) -> tuple[Tensor, Tensor, Tensor]:
        """L_rec of a part's histories [b, D], and its gradients of them and of the item table."""
        here = at._replace(place=part.place)
        return self._loss.by_hand(h, of.weights[0], part.batch.targets, here)

    def _encoder_losses(self, scalars: list[Tensor]) -> Losses:
        rec, terms = scalars[0], ContrastLosses(*scalars[1:])
        total = encoder_objective(rec, terms, self._options)
        return {"rec": rec, **terms._asdict(), "total": total}

    def _contrasting(
        self, factors: ContrastLosses, *, of_views: bool, of_augmenters: bool
    ) -> Callable[[Tensor], Contrast]:
        return partial(
            self._contrast, factors=factors, of_views=of_views, of_augmenters=of_augmenters
        )

    def _contrast(
        self, h: Tensor, *, factors: ContrastLosses, of_views: bool, of_augmenters: bool
    ) -> Contrast:
        """The terms, and the gradients of their weighted sum.

        Args:
            h: the encoded views, [2B, D], first views first.
            factors: scalars, what each term counts.
            of_views: whether the views' gradients are wanted, the paths through the augmenters
                included.
            of_augmenters: whether those of the augmenters' weights are.
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
        of_h = (grad_h1.add_(through_1), grad_h2.add_(through_2)) if of_views else ()
        if not of_augmenters:
            gradients = []
        elif options.shared_augmenter:
            gradients = [a + b for a, b in zip(grads_1, grads_2, strict=True)]
        else:
            gradients = grads_1 + grads_2
        return Contrast(terms, torch.cat(of_h) if of_views else None, gradients)
