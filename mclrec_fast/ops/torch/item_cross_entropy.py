"""Cross-entropy over the whole catalogue in plain torch (Qin et al. 2023, Eq. 5)."""

from torch import Tensor
from torch.nn import functional


def item_cross_entropy(h: Tensor, item_embedding: Tensor, targets: Tensor) -> Tensor:
    """Mean over B of -log softmax(h . item_embedding^T) at the target; padding id 0 is a class."""
    logits = h @ item_embedding.T  # [B, V]
    return functional.cross_entropy(logits, targets)
