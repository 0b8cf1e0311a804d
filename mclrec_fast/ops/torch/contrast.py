"""The contrast of four views in plain torch: L_cl1, L_cl2 and the contrastive regulariser R.

Qin et al. 2023, Eq. 8 and 11-13, with the sums as the authors' code takes them. Seven distinct
B x B blocks serve all four contrasts and all three regularisers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .info_nce import similarity_rows


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


def contrast(
    h1: Tensor,
    h2: Tensor,
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = 1.0,
    similarity: str = "dot",
    cl1: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """(L_cl1, L_cl2, R) of encodings h1, h2 and augmented views z1, z2, [B, D] each.

    L_cl1 = con(h1, h2) with the given similarity and temperature (0 when ``cl1`` is false);
    L_cl2 = con(z1, z2) + con(h1, z2) + con(h2, z1) and R on the same pairs, dot products.
    """
    if cl1:
        a, b = similarity_rows(h1, similarity), similarity_rows(h2, similarity)
        blocks = (self_block(a, temperature), self_block(b, temperature))
        loss1 = contrast_of(*blocks, cross_block(a, b, temperature))
    else:
        loss1 = h1.new_zeros(())
    of_h1, of_h2, of_z1, of_z2 = (self_block(view) for view in (h1, h2, z1, z2))
    pairs = (
        (z1, z2, of_z1, of_z2, cross_block(z1, z2)),
        (h1, z2, of_h1, of_z2, cross_block(h1, z2)),
        (h2, z1, of_h2, of_z1, cross_block(h2, z1)),
    )
    loss2 = sum((contrast_of(aa, bb, ab) for _, _, aa, bb, ab in pairs), h1.new_zeros(()))
    r = sum((_regulariser(*pair) for pair in pairs), h1.new_zeros(()))
    return loss1, loss2, r


def regulariser(a: Tensor, b: Tensor) -> Tensor:
    """The contrastive regulariser of one pair of views (see :func:`contrast`), scalar."""
    return _regulariser(a, b, self_block(a), self_block(b), cross_block(a, b))


def _regulariser(a: Tensor, b: Tensor, aa: SelfBlock, bb: SelfBlock, ab: CrossBlock) -> Tensor:
    """mean_i relu(p_i - m_i) + mean_i max(p_i, m_i) - mean of all negatives.

    p_i is the positive of row i of the N = 2B, m_i its largest negative. No negative exceeds
    max(p_i, m_i), so the second hinge of the paper is never cut and its mean is closed form; the
    sum of the negatives is |sum z|^2 - sum |z_i|^2 - 2 sum_b p_b.
    """
    batch = len(a)
    if batch == 1:
        return 0.0 * ab.positive[0]
    p = torch.cat((ab.positive, ab.positive))  # [N]
    m = torch.cat((torch.maximum(aa.max, ab.row_max), torch.maximum(bb.max, ab.column_max)))
    n = 2 * batch
    total = (a.sum(0) + b.sum(0)).square().sum()
    negatives = total - a.square().sum() - b.square().sum() - 2.0 * ab.positive.sum()
    return (p - m).relu().mean() + torch.maximum(p, m).mean() - negatives / (n * (n - 2))


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
