"""Samples to slices of the log: the arrow from (user, end) pairs to what the ops take.

The log lies on the training device once, in CSR form; a batch is made of starts and lengths into it
and no history is ever copied out here. Splitting the log is `data`'s business, packing `ops`'.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SampleTable:
    """The samples of a split over a log, as tensors on one device.

    Attributes:
        items: int32 [I], the whole log's items.
        users: int32 [M], ends: int32 [M]: sample m predicts position ``ends[m]`` of user
            ``users[m]`` from what came before it.
    """

    def __init__(self, log: Any, samples: Any, max_length: int, device: torch.device) -> None:
        """Put an `InteractionLog` and some `Samples` of it on a device.

        Args:
            log: has ``items`` int32 [I] and ``offsets`` int64 [U + 1].
            samples: has ``users`` and ``ends``, int32 [M].
            max_length: items of history to keep (L).
            device: where everything goes.
        """
        self.max_length = max_length
        self.device = device
        self.items = _tensor(log.items, device)  # [I]
        self._offsets = _tensor(log.offsets, device)  # [U + 1]
        self.users = _tensor(samples.users, device)  # [M]
        self.ends = _tensor(samples.ends, device)  # [M]

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


def _tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor; a read-only (memory-mapped) one is copied, torch has no such thing."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
