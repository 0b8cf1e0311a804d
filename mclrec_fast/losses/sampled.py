"""What the losses over sampled items have in common: the draw, and gradients from two derivatives.

The same `loss_negatives` items are drawn for all rows of a batch, uniformly among the real ones and
with replacement, by Philox: the same on every backend and in every process. A row whose target is
among them does not count it as a negative. Plain torch: there are no kernels, and the last bits may
depend on the number of threads.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..ops.philox import STREAM_NEGATIVES, philox, uniform_below
from .base import Loss

if TYPE_CHECKING:
    from ..models.base import Pass


def drawn_items(count: int, classes: int, at: "Pass", device: torch.device) -> Tensor:
    """Items 1 .. V - 1, each as likely, int64 [count]; those of this seed and update.

    Raises:
        InputError: there are no items.
    """
    if classes < 2:
        raise InputError("a sampled loss needs items to sample: there are none")
    draw = torch.arange(-(-count // 4), device=device)
    words = philox(at.seed, draw, torch.zeros_like(draw), STREAM_NEGATIVES, int(at.update))
    return uniform_below(torch.stack(words, -1).flatten()[:count], classes - 1) + 1


class Scores(NamedTuple):
    """What a sampled loss looks at."""

    target: Tensor  # [B]
    negatives: Tensor  # [B, k]
    hits: Tensor  # bool [B, k], negatives that are the row's target
    drawn: Tensor  # int64 [k]


class Derivatives(NamedTuple):
    """A loss, and what it changes with each score."""

    loss: Tensor  # scalar, mean over the rows
    target: Tensor  # [B]
    negatives: Tensor  # [B, k], 0 where `Scores.hits`


class SampledLoss(Loss):
    """A loss of the target's score and of those of drawn items."""

    kernels = ()

    def __init__(self, count: int) -> None:
        """With so many negatives."""
        self.count = count

    def of_scores(self, scores: Scores, classes: int) -> Tensor:
        """The mean loss, for autograd."""
        raise NotImplementedError

    def derivatives(self, scores: Scores, classes: int) -> Derivatives:
        """The same with its derivatives."""
        raise NotImplementedError

    def _scores(self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass") -> Scores:
        drawn = drawn_items(self.count, len(items), at, h.device)
        hits = drawn == targets[:, None]
        return Scores((h * items[targets]).sum(1), h @ items[drawn].t(), hits, drawn)

    def __call__(self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass") -> Tensor:
        """See `Loss`."""
        return self.of_scores(self._scores(h, items, targets, at), len(items))

    def by_hand(
        self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Loss`; only the rows of drawn items and targets differ from 0."""
        scores = self._scores(h, items, targets, at)
        loss, target, negatives = self.derivatives(scores, len(items))
        # s = h . e: d loss / d h = sum of c e over the items, d loss / d e = sum of c h over rows.
        grad_h = negatives @ items[scores.drawn] + target[:, None] * items[targets]
        if at.table is None:
            grad_items = torch.zeros_like(items)
        else:
            grad_items = at.table.of(items, scores.drawn, targets)
        grad_items.index_add_(0, scores.drawn, negatives.t() @ h)
        grad_items.index_add_(0, targets, target[:, None] * h)
        return loss, grad_h, grad_items
