"""InfoNCE of two views in plain torch (Qin et al. 2023, Eq. 8, as the mean over the 2B rows)."""

import torch
from torch import Tensor
from torch.nn import functional

COSINE_EPS = 1e-8


def info_nce(a: Tensor, b: Tensor, *, temperature: float = 1.0, similarity: str = "dot") -> Tensor:
    """Contrast of two views [B, D], scalar; 0 for B = 1, where there is no negative."""
    rows = similarity_rows(torch.cat((a, b)), similarity)  # [2B, D]
    scores = rows @ rows.T  # [2B, 2B]
    if temperature != 1.0:
        scores = scores.div_(temperature)
    # A row is not compared with itself. Autograd need not know: the softmax there is exactly 0.
    scores.detach().fill_diagonal_(-torch.inf)
    other_view = torch.arange(len(rows), device=rows.device).roll(len(a))
    return functional.cross_entropy(scores, other_view)


def similarity_rows(x: Tensor, similarity: str) -> Tensor:
    """Rows whose dot products are the similarities: x itself, or x of unit length for "cos"."""
    return functional.normalize(x, dim=1, eps=COSINE_EPS) if similarity == "cos" else x
