"""The popularity floor: one score per item, its count in training, the same for everybody.

A model of width 1 whose representation is 1 for every history, so that ranking and recommending
need no path of their own.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .base import Model, Pass, Update
from .options import PopularityOptions

if TYPE_CHECKING:
    from ..data import Dataset
    from ..ops import PackedSequences


class Popularity(Model):
    """See `Model` for what it can do."""

    Options = PopularityOptions
    iterative = False
    needs_history = False
    options: PopularityOptions

    def build(self, n_classes: int) -> None:
        """Create the scores, float32 [V], still zero."""
        self.register_buffer("popularity", torch.zeros(n_classes))
        self.popularity: Tensor

    def learn(self, dataset: "Dataset") -> None:
        """Count how often training sees each item."""
        self.popularity.copy_(torch.from_numpy(dataset.training_counts()))

    def represent(self, packed: "PackedSequences", at: Pass) -> Tensor:
        """Ones, [S, 1]."""
        return torch.ones(len(packed.offsets) - 1, 1, device=self.popularity.device)

    def represent_slices(self, items: Tensor, starts: Tensor, lengths: Tensor, at: Pass) -> Tensor:
        """Ones, [S, 1], whatever the histories are."""
        return torch.ones(len(starts), 1, device=self.popularity.device)

    def items(self) -> Tensor:
        """The scores, [V, 1]."""
        return self.popularity[:, None]

    def updates(self) -> list[Update]:
        """None: counting was all."""
        return []
