"""InfoNCE of two views in plain torch (Qin et al. 2023, Eq. 8), from its three B x B blocks.

The N = 2B rows of [a; b] are compared with each other; a row's positive is its other view, its
negatives the N - 2 rows of other samples. The mean is over all N rows, as in the authors' code.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

COSINE_EPS = 1e-8


class CrossBlock(NamedTuple):
    """What the losses need of the similarities a . b^T of two views."""

    positive: Tensor  # [B] the diagonal
    row_lse: Tensor  # [B] log-sum-exp over a row, positive included
    column_lse: Tensor  # [B] the same over a column
    row_max: Tensor  # [B] largest negative of a row
    column_max: Tensor  # [B] largest negative of a column


class SelfBlock(NamedTuple):
    """What the losses need of the similarities a . a^T of one view with itself."""

    lse: Tensor  # [B] log-sum-exp over a row, the row itself left out
    max: Tensor  # [B] largest negative of a row


def info_nce(a: Tensor, b: Tensor, *, temperature: float = 1.0, similarity: str = "dot") -> Tensor:
    """Contrast of two views, scalar; 0 for B = 1, where there is no negative."""
    a, b = similarity_rows(a, similarity), similarity_rows(b, similarity)
    return contrast_of(
        self_block(a, temperature),
        self_block(b, temperature),
        cross_block(a, b, temperature),
    )


def similarity_rows(x: Tensor, similarity: str) -> Tensor:
    """Rows whose dot products are the similarities: x itself, or x of unit length for "cos"."""
    return functional.normalize(x, dim=1, eps=COSINE_EPS) if similarity == "cos" else x


def self_block(a: Tensor, temperature: float = 1.0) -> SelfBlock:
    """The statistics of a . a^T / temperature without its diagonal."""
    s = (a @ a.T / temperature).masked_fill(_diagonal(a), -torch.inf)  # [B, B]
    if len(a) == 1:
        return SelfBlock(s[:, 0].detach(), s[:, 0].detach())
    return SelfBlock(s.logsumexp(1), s.max(1).values)


def cross_block(a: Tensor, b: Tensor, temperature: float = 1.0) -> CrossBlock:
    """The statistics of a . b^T / temperature."""
    s = a @ b.T / temperature  # [B, B]
    negatives = s.masked_fill(_diagonal(a), -torch.inf)
    return CrossBlock(
        s.diagonal(),
        s.logsumexp(1),
        s.logsumexp(0),
        negatives.max(1).values,
        negatives.max(0).values,
    )


def contrast_of(aa: SelfBlock, bb: SelfBlock, ab: CrossBlock) -> Tensor:
    """InfoNCE from the three blocks: mean over N rows of log-sum-exp minus positive."""
    if len(ab.positive) == 1:
        return 0.0 * ab.positive[0]
    rows = torch.logaddexp(aa.lse, ab.row_lse) - ab.positive
    columns = torch.logaddexp(bb.lse, ab.column_lse) - ab.positive
    return torch.cat((rows, columns)).mean()


def _diagonal(a: Tensor) -> Tensor:
    return torch.eye(len(a), dtype=torch.bool, device=a.device)
