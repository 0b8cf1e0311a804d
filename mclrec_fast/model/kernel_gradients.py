"""The gradients of the objectives by hand: one chain of kernels forward, one backward.

The same function as autograd's over objective.py (tests/model/test_gradients.py), without a graph
and its wrappers, which take longer than a small kernel, and with one array for the gradient of the
item table: the catalogue softmax writes it, and the encoder adds to it.
"""

import torch
from torch import Tensor

from .. import _native
from ..config import Config
from ..ops import PackedSequences
from ..ops._shared import signed_seed, update_tensor
from .mclrec import MCLRec
from .objective import ContrastLosses, augmenter_objective, encoder_objective

_OPS = torch.ops.mclrec_fast
_KERNELS = (
    "encode",
    "encode_backward_add",
    "item_cross_entropy",
    "augmenter",
    "augmenter_backward",
    "contrast",
    "contrast_backward",
    "info_nce",
    "info_nce_backward",
)


class KernelGradients:
    """See `Gradients` in gradients.py for what its methods take and return.

    What they return are inference tensors: good to move weights by and to be read, not to be
    differentiated.
    """

    @staticmethod
    def available(config: Config, device: torch.device) -> bool:
        """Whether this backend has every kernel on this device."""
        if _native.backend(config.train.backend, device) != "native":
            return False
        return all(_native.has_kernel(op, device) for op in _KERNELS)

    def __init__(self, model: MCLRec, config: Config) -> None:
        """For this model, with the constants of this configuration."""
        self._model, self._contrast = model, config.contrast
        self._weights = model.encoder.weights()
        self._augmenters = [list(augmenter.parameters()) for augmenter in model.augmenters or ()]
        self._seed = signed_seed(config.train.seed)
        lambda_, beta, gamma = (
            self._weights[0].new_tensor(value)
            for value in (config.contrast.lambda_, config.contrast.beta, config.contrast.gamma)
        )
        # What each term counts in L0 and in L1, where no augmenter can change L_cl1.
        self._in_encoder = ContrastLosses(lambda_, beta, beta * gamma)
        self._in_augmenters = ContrastLosses(torch.zeros_like(beta), torch.ones_like(beta), gamma)

    @torch.inference_mode()
    def encoder(
        self,
        views: PackedSequences,
        targets: Tensor,
        update: int | Tensor,
        *,
        with_augmenters: bool,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Those of L0."""
        batch, weights = len(targets), self._weights
        number = update_tensor("encode", update, items=views.items)
        options = self._model.encoder.options(self._seed, number)
        h, saved = _OPS.encode.default(*views, weights, *options, True)  # [3B, D]
        rec, grad_h, grad_items = _OPS.item_cross_entropy.default(
            h[:batch], weights[0], targets, True, True
        )
        if len(h) > batch:
            terms, grad_views, of_augmenters = self._contrast_gradients(
                h[batch:], self._in_encoder, of_views=True, of_augmenters=with_augmenters
            )
            grad_h = torch.cat((grad_h, *grad_views))
        else:
            zero = rec.new_zeros(())
            terms, of_augmenters = ContrastLosses(zero, zero, zero), []
        others = _OPS.encode_backward_add.default(
            grad_h, *views, weights, saved, *options, grad_items
        )
        losses = {
            "rec": rec,
            "cl1": terms.cl1,
            "cl2": terms.cl2,
            "reg": terms.regulariser,
            "encoder": encoder_objective(rec, terms, self._contrast),
        }
        return losses, [grad_items, *others, *of_augmenters]

    @torch.inference_mode()
    def augmenters(
        self, views: PackedSequences, update: int | Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Those of L1."""
        number = update_tensor("encode", update, items=views.items)
        options = self._model.encoder.options(self._seed, number)
        h, _ = _OPS.encode.default(*views, self._weights, *options, False)  # [2B, D]
        terms, _, gradients = self._contrast_gradients(
            h, self._in_augmenters, of_views=False, of_augmenters=True
        )
        return {"augmenter": augmenter_objective(terms, self._contrast)}, gradients

    def _contrast_gradients(
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
            The terms; what the gradients of h1 and h2 are to be joined from, [B, D] each; the
            augmenters' gradients.
        """
        h1, h2 = h.chunk(2)
        config = self._contrast
        temperature, cosine = config.temperature, config.similarity == "cos"
        if not self._augmenters:
            cl1, saved = _OPS.info_nce.default(h1, h2, temperature, cosine, True)
            grads = _OPS.info_nce_backward.default(
                factors.cl1, h1, h2, saved, temperature, cosine, True, True
            )
            zero = h.new_zeros(())
            return ContrastLosses(cl1, zero, zero), grads, []
        weights1, weights2 = self._augmenters
        z1, kept1 = _OPS.augmenter.default(h1, *weights1, True)
        z2, kept2 = _OPS.augmenter.default(h2, *weights2, True)
        with_cl1 = config.lambda_ != 0
        *terms, values, indices = _OPS.contrast.default(
            h1, h2, z1, z2, temperature, cosine, with_cl1, True
        )
        grad_h1, grad_h2, grad_z1, grad_z2 = _OPS.contrast_backward.default(
            *factors, h1, h2, z1, z2, values, indices, temperature, cosine, with_cl1,
            of_views, of_views, True, True,
        )  # fmt: skip
        through1, *grads1 = _OPS.augmenter_backward.default(
            grad_z1, h1, *weights1, z1, kept1, of_views, of_augmenters
        )
        through2, *grads2 = _OPS.augmenter_backward.default(
            grad_z2, h2, *weights2, z2, kept2, of_views, of_augmenters
        )
        grad_views = (grad_h1.add_(through1), grad_h2.add_(through2)) if of_views else ()
        if not of_augmenters:
            gradients = []
        elif weights1[0] is weights2[0]:  # a shared augmenter
            gradients = [a + b for a, b in zip(grads1, grads2, strict=True)]
        else:
            gradients = grads1 + grads2
        return ContrastLosses(*terms), grad_views, gradients
