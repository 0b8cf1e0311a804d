"""The objectives of the paper, one function an equation (Qin et al. 2023, section 4).

L_rec, the loss against the catalogue, is losses/.

The constants follow the authors' code where it differs from the paper: R counts ``gamma`` = 0.1
times in both objectives, and the loss of the augmenters' update carries the constant lambda L_cl1.
"""

from typing import NamedTuple

from torch import Tensor

from ..ops import contrast
from .augmenter import Augmenter
from .options import MCLRecOptions


class ContrastLosses(NamedTuple):
    """The three contrastive terms of a batch, scalars; a term whose weight is 0 is 0."""

    cl1: Tensor  # contrast of the stochastic views
    cl2: Tensor  # contrast with and between the learned views
    reg: Tensor  # R, which keeps the learned views informative


def contrast_losses(
    h1: Tensor,
    h2: Tensor,
    augmenters: tuple[Augmenter, Augmenter],
    options: MCLRecOptions,
    backend: str,
) -> ContrastLosses:
    """L_cl1, L_cl2 (Eq. 8-10) and R (Eq. 11-13) of the encoded views h1, h2 [B, D]."""
    losses = contrast(
        h1,
        h2,
        augmenters[0](h1, backend),
        augmenters[1](h2, backend),
        temperature=options.temperature,
        similarity=options.similarity,
        cl1=options.lambda_ != 0,
        backend=backend,
    )
    return ContrastLosses(*losses)


def encoder_objective(rec: Tensor, losses: ContrastLosses, options: MCLRecOptions) -> Tensor:
    """L0 = L_rec + lambda L_cl1 + beta (L_cl2 + gamma R) (Eq. 14)."""
    meta = losses.cl2 + options.gamma * losses.reg
    return rec + options.lambda_ * losses.cl1 + options.beta * meta


def augmenter_objective(losses: ContrastLosses, options: MCLRecOptions) -> Tensor:
    """L1 = L_cl2 + gamma R (Eq. 15), plus lambda L_cl1, which no augmenter can change."""
    return losses.cl2 + options.gamma * losses.reg + options.lambda_ * losses.cl1
