"""Packed sequences: a batch without padding, the one shape every op speaks.

Not a tensor subclass and not a container with behaviour: three tensors and what they mean.
"""

from typing import NamedTuple

from torch import Tensor


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

    def rows(self, start: int, stop: int) -> "PackedSequences":
        """Sequences ``start .. stop`` as a packed batch of their own (copies nothing but offsets).

        Reads two offsets on the host; on a GPU that is a synchronisation.
        """
        offsets = self.offsets[start : stop + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return PackedSequences(self.items[first:last], self.positions[first:last], offsets - first)
