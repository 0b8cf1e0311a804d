"""Packed sequences: a batch without padding, the one shape every op speaks.

Not a tensor subclass and not a container with behaviour: three tensors and what they mean.
"""

from typing import NamedTuple

import torch
from torch import Tensor


def free_to_read(tensor: Tensor) -> bool:
    """Whether the host can look at a value of it without waiting for a device."""
    return tensor.device.type == "cpu"


class PackedSequences(NamedTuple):
    """A batch of S item sequences laid end to end, oldest item first.

    Sequence ``s`` occupies tokens ``offsets[s] .. offsets[s + 1]``. Item id 0 is a masked token: it
    may be a query (as the last token of its sequence) but never a key. ``items`` and ``positions``
    may be longer than ``offsets[-1]``; the rest is unused capacity.

    Attributes:
        items: int32 [T], item ids.
        positions: int32 [T], the position index of each token, 0 at the oldest kept item.
        offsets: int32 [S + 1], ascending, starting at 0.
    """

    items: Tensor  # [T]
    positions: Tensor  # [T]
    offsets: Tensor  # [S + 1]

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, int32 [S]."""
        return self.offsets.diff()

    def narrow(self) -> "PackedSequences":
        """The same batch without its unused capacity, where that waits for no device."""
        if not free_to_read(self.offsets):
            return self
        tokens = int(self.offsets[-1])
        return PackedSequences(self.items[:tokens], self.positions[:tokens], self.offsets)

    def rows(self, start: int, stop: int) -> "PackedSequences":
        """Sequences ``start .. stop`` as a packed batch of their own.

        Waits for no device: where offsets cannot be read for nothing, the tokens are moved to the
        front on the device, and the capacity stays what it was. On the CPU only offsets are copied.
        """
        offsets = self.offsets[start : stop + 1]
        if free_to_read(offsets):
            first, last = int(offsets[0]), int(offsets[-1])
            items, positions = self.items[first:last], self.positions[first:last]
            return PackedSequences(items, positions, offsets - first)
        token = torch.arange(len(self.items), device=offsets.device) + offsets[0]  # [T]
        token = token.clamp_max(len(self.items) - 1)
        return PackedSequences(self.items[token], self.positions[token], offsets - offsets[0])
