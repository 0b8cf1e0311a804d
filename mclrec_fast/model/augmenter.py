"""The learnable augmenter: a small MLP on a sequence representation (Qin et al. 2023, Eq. 7)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu


class Augmenter(nn.Module):
    """D -> D/2 -> D/4 -> D, exact GELU after the first two layers, output of unit length.

    The authors divide by the L2 norm without an epsilon. Weights start in torch's own
    initialisation of `nn.Linear`, as the authors' do.
    """

    def __init__(self, hidden: int) -> None:
        """Create the three layers for representations of ``hidden`` numbers."""
        super().__init__()
        self.dense_1 = nn.Linear(hidden, hidden // 2)
        self.dense_2 = nn.Linear(hidden // 2, hidden // 4)
        self.dense_3 = nn.Linear(hidden // 4, hidden)

    def forward(self, h: Tensor) -> Tensor:
        """The augmented view of each representation, [B, D] -> [B, D]."""
        z: Tensor = self.dense_3(gelu(self.dense_2(gelu(self.dense_1(h)))))
        length: Tensor = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        return z / length
