"""The learnable augmenter in plain torch (Qin et al., SIGIR 2023, Eq. 7)."""

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear


def augmenter(
    h: Tensor,
    weight_1: Tensor,
    bias_1: Tensor,
    weight_2: Tensor,
    bias_2: Tensor,
    weight_3: Tensor,
    bias_3: Tensor,
) -> Tensor:
    """Three layers, exact GELU after the first two, output of unit length without an epsilon."""
    u = gelu(linear(h, weight_1, bias_1))
    u = gelu(linear(u, weight_2, bias_2))
    z = linear(u, weight_3, bias_3)
    length: Tensor = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / length
