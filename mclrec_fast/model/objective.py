"""The objectives of the paper, one function an equation (Qin et al. 2023, section 4).

The constants follow the authors' code where it differs from the paper: R counts ``gamma`` = 0.1
times in both objectives, and the loss of the augmenters' update carries the constant lambda L_cl1.
"""

from typing import NamedTuple

from torch import Tensor

from ..config import ContrastConfig
from ..ops import contrast, info_nce, item_cross_entropy
from .augmenter import Augmenter


class ContrastLosses(NamedTuple):
    """The three contrastive terms of a batch, scalars; a term whose weight is 0 is 0."""

    cl1: Tensor  # contrast of the stochastic views
    cl2: Tensor  # contrast with and between the learned views
    regulariser: Tensor  # R, which keeps the learned views informative


def recommendation_loss(h: Tensor, item_embedding: Tensor, targets: Tensor, backend: str) -> Tensor:
    """L_rec (Eq. 5): cross-entropy over all item classes. h [B, D], targets int64 [B]."""
    return item_cross_entropy(h, item_embedding, targets, backend=backend)


def contrast_losses(
    h1: Tensor,
    h2: Tensor,
    augmenters: tuple[Augmenter, Augmenter] | None,
    config: ContrastConfig,
    backend: str,
) -> ContrastLosses:
    """L_cl1, L_cl2 (Eq. 8-10) and R (Eq. 11-13) of the encoded views h1, h2 [B, D]."""
    zero = h1.new_zeros(())
    if augmenters is None and config.lambda_ == 0:
        return ContrastLosses(zero, zero, zero)
    if augmenters is None:
        cl1 = info_nce(
            h1,
            h2,
            temperature=config.temperature,
            similarity=config.similarity,
            backend=backend,
        )
        return ContrastLosses(cl1, zero, zero)
    losses = contrast(
        h1,
        h2,
        augmenters[0](h1, backend),
        augmenters[1](h2, backend),
        temperature=config.temperature,
        similarity=config.similarity,
        cl1=config.lambda_ != 0,
        backend=backend,
    )
    return ContrastLosses(*losses)


def encoder_objective(rec: Tensor, losses: ContrastLosses, config: ContrastConfig) -> Tensor:
    """L0 = L_rec + lambda L_cl1 + beta (L_cl2 + gamma R) (Eq. 14)."""
    meta = losses.cl2 + config.gamma * losses.regulariser
    return rec + config.lambda_ * losses.cl1 + config.beta * meta


def augmenter_objective(losses: ContrastLosses, config: ContrastConfig) -> Tensor:
    """L1 = L_cl2 + gamma R (Eq. 15), plus lambda L_cl1, which no augmenter can change."""
    return losses.cl2 + config.gamma * losses.regulariser + config.lambda_ * losses.cl1
