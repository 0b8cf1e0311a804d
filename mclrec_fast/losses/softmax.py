"""The exact softmax cross-entropy over all item classes (Eq. 5 of the paper), padding included."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ops import item_cross_entropy
from .base import Loss

if TYPE_CHECKING:
    from ..models.base import Pass


class Softmax(Loss):
    """-log softmax(h items^T) at the target, see `ops.item_cross_entropy`."""

    kernels = ("item_cross_entropy",)

    def __call__(self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass") -> Tensor:
        """See `Loss`."""
        return item_cross_entropy(h, items, targets, backend=at.backend)

    def by_hand(
        self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Loss`."""
        op = torch.ops.mclrec_fast.item_cross_entropy.default
        loss, grad_h, grad_items = op(h, items, targets, True, True)
        return loss, grad_h, grad_items


LOSS = Softmax()
