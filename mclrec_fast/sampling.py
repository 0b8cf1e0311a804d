"""Samples to slices of the log: the arrow from (user, end) pairs to what the ops take.

The log lies on the training device once, in CSR form; a batch is made of starts and lengths into it
and no history is ever copied out here. Splitting the log is `data`'s business, packing `ops`'.
"""

import copy
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .ops.philox import STREAM_VALIDATION
from .shuffling import Shuffled

if TYPE_CHECKING:
    from .data import Dataset


class _Log(Protocol):
    @property
    def items(self) -> NDArray[np.int32]:
        """All interactions' items [I], users end to end."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each user's begin, [U + 1]."""


class _Samples(Protocol):
    @property
    def users(self) -> NDArray[np.int32]:
        """Rows of the log [M]."""

    @property
    def ends(self) -> NDArray[np.int32]:
        """Positions of the targets in them [M]."""


class SampleTable:
    """The samples of a split over a log, as tensors on one device.

    Attributes:
        items: int32 [I], the whole log's items.
        users: int32 [M], ends: int32 [M]: sample m predicts position ``ends[m]`` of user
            ``users[m]`` from what came before it.
        max_length: items of the longest history, at most L.
    """

    def __init__(self, log: _Log, samples: _Samples, max_length: int, device: torch.device) -> None:
        """Put a log and some samples of it on a device, keeping L items of each history."""
        self.max_length = min(max_length, int(samples.ends.max(initial=1)))
        self.device = device
        self.items = _tensor(log.items, device)  # [I]
        self._offsets = _tensor(log.offsets, device)  # [U + 1]
        self.users = _tensor(samples.users, device)  # [M]
        self.ends = _tensor(samples.ends, device)  # [M]

    @classmethod
    def of(
        cls, dataset: "Dataset", split: str, max_length: int, device: torch.device
    ) -> "SampleTable | None":
        """The samples of `train`, `valid` or `test`; None where a data set has none."""
        samples = getattr(dataset.split, split)
        return None if samples is None else cls(dataset.log, samples, max_length, device)

    def some(self, count: int, seed: int) -> "SampleTable":
        """`count` of the samples, a fixed choice by the seed, in their order; all if 0 or more."""
        if not 0 < count < len(self):
            return self
        order = Shuffled(len(self), seed=seed, epoch=0, stream=STREAM_VALIDATION)
        chosen = order.part(0, count).sort().values.to(self.device)
        table = copy.copy(self)
        table.users, table.ends = self.users[chosen], self.ends[chosen]
        return table

    def part(self, first: int, end: int) -> "SampleTable":
        """The samples first .. end."""
        table = copy.copy(self)
        table.users, table.ends = self.users[first:end], self.ends[first:end]
        return table

    def __len__(self) -> int:
        """Samples (M)."""
        return len(self.users)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What to pack for some samples, and what to predict.

        Args:
            index: int64 [B], sample numbers.

        Returns:
            starts int64 [B] and lengths int32 [B] of the histories in ``items``, cut to their last
            L items; targets int64 [B].
        """
        first = self._offsets[self.users[index]]  # [B]
        ends = self.ends[index]  # [B]
        lengths = ends.clamp(max=self.max_length)  # [B]
        position = first + ends  # [B], where the target lies
        return position - lengths, lengths, self.items[position].long()

    def seen(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Everything the users of some samples had before the target, not only the last L items.

        Returns:
            items int32 [K] and offsets int64 [B + 1].
        """
        first = self._offsets[self.users[index]]  # [B]
        counts = self.ends[index].long()  # [B]
        offsets = torch.zeros(len(index) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        shift = torch.repeat_interleave(first - offsets[:-1], counts)  # [K]
        return self.items[torch.arange(len(shift), device=self.device) + shift], offsets


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """The array as a tensor; a read-only (memory-mapped) one is copied, torch has no such thing."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
