"""The item table's gradient, kept from update to update where a loss touches few of its rows.

A fresh array of a million rows costs far more than what a sampled loss computes: its pages have to
be mapped and cleared. Here only the rows that were written are cleared.
"""

import torch
from torch import Tensor


class TableGradient:
    """One array. What `of` returns is good until its next call."""

    def __init__(self) -> None:
        """Nothing is held before it is asked for."""
        self._array: Tensor | None = None
        self._written: list[Tensor] = []

    def of(self, items: Tensor, *rows: Tensor) -> Tensor:
        """Zeros like the item table [V, D]; the caller may write to these rows.

        Args:
            items: the item table.
            rows: each of any shape, int64 or int32, values 0 .. V - 1.
        """
        array = self._array
        if array is None or array.shape != items.shape or array.dtype != items.dtype:
            array = self._array = torch.zeros_like(items)
        else:
            for written in self._written:
                array.index_fill_(0, written.flatten().to(torch.int64), 0.0)
        self._written = list(rows)
        return array

    def also(self, gradient: Tensor, rows: Tensor) -> None:
        """More rows will be written, if the gradient is the one that `of` returned."""
        if gradient is self._array:
            self._written.append(rows)
