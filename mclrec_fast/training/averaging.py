"""An exponential moving average of the weights over the batches, to validate and to keep.

Polyak & Juditsky, SIAM J. Control Optim. 1992; the decay grows with the batches as in TensorFlow's
ExponentialMovingAverage, so that the first ones are soon forgotten.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class WeightAverage:
    """The average of some weights; after batch n it keeps min(decay, (1 + n) / (10 + n)) of itself.

    Attributes:
        weights: what is averaged.
        averages: one like each weight.
        batches: how many have been averaged.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        """Start from the weights as they are."""
        self.weights, self._decay = list(weights), decay
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.batches = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights behind one more batch."""
        self.batches += 1
        keep = min(self._decay, (1 + self.batches) / (10 + self.batches))
        torch._foreach_lerp_(self.averages, self.weights, 1 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While entered, the model's weights are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self.weights, self.averages, strict=True):
            kept = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later average of the same weights needs to go on."""
        return {"batches": self.batches, "averages": self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.batches = state["batches"]
        for mine, other in zip(self.averages, state["averages"], strict=True):
            mine.copy_(other)
