"""The order of an epoch's samples, some of it at a time: for epochs that are larger than memory.

Every sample draws a 64-bit key, and ascending keys are the order (ops/philox.py). What is held is a
window of it, the samples whose keys lie in a range; the keys of all are drawn anew for each.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .ops.philox import STREAM_SHUFFLE, shuffle_keys

WINDOW = 1 << 23
"""Samples of a window, about; an epoch of no more has one."""
_CHUNK = 1 << 15  # keys drawn at a time: what their arithmetic leaves in cache
_BITS = 12  # of a key, by which windows are cut


class Shuffled:
    """`ops.philox.shuffle_order` of any number of samples."""

    def __init__(
        self,
        samples: int,
        *,
        seed: int,
        epoch: int,
        stream: int = STREAM_SHUFFLE,
        device: torch.device | None = None,
    ) -> None:
        """See `shuffle_order`.

        Args:
            samples: how many (M).
            seed: of the run.
            epoch: from 0.
            stream: what the order is for.
            device: where parts of it are wanted.
        """
        self._samples, self._device = samples, device or torch.device("cpu")
        self._address = {"seed": seed, "epoch": epoch, "stream": stream}
        self._starts: Tensor | None = None
        self._first, self._window = 0, torch.empty(0, dtype=torch.int64)

    def part(self, first: int, end: int) -> Tensor:
        """Entries first .. end of the order, int64 [end - first], on the device."""
        parts = []
        while first < end:
            at = first - self._first
            if not 0 <= at < len(self._window):
                self._look_at(first)
                continue
            parts.append(self._window[at : at + end - first])
            first += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _keys(self) -> Iterator[tuple[int, Tensor]]:
        """The keys of runs of samples, and the first of each."""
        for first in range(0, self._samples, _CHUNK):
            rows = torch.arange(first, min(first + _CHUNK, self._samples))
            yield first, shuffle_keys(rows, **self._address)

    def _look_at(self, place: int) -> None:
        """Holds the window with an entry of the order."""
        self._window = torch.empty(0, dtype=torch.int64)  # not two at a time
        if self._samples <= WINDOW:
            keys, rows = torch.cat([part for _, part in self._keys()]), None
        else:
            digits = self._digits_around(place)
            keys, rows = self._between(*digits)
        order = torch.sort(keys, stable=True).indices
        self._window = (order if rows is None else rows[order]).to(self._device)

    def _digits_around(self, place: int) -> tuple[int, int]:
        """Which top digits of keys the window of an entry has, first .. end."""
        if self._starts is None:
            counts = torch.zeros(1 << _BITS, dtype=torch.int64)
            for _, keys in self._keys():
                counts += torch.bincount(_digits(keys), minlength=1 << _BITS)
            self._starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        starts = self._starts
        window = starts[:-1] // WINDOW  # the window of each digit: a run of them
        digit = int(torch.searchsorted(starts, place, right=True)) - 1
        first = int(torch.searchsorted(window, window[digit]))
        end = int(torch.searchsorted(window, window[digit], right=True))
        self._first = int(starts[first])
        return first, end

    def _between(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """The keys whose digits are first .. end, and their samples, in order of these."""
        found, rows = [], []
        for start, keys in self._keys():
            digits = _digits(keys)
            inside = ((digits >= first) & (digits < end)).nonzero()[:, 0]
            found.append(keys[inside])
            rows.append(inside + start)
        return torch.cat(found), torch.cat(rows)


def _digits(keys: Tensor) -> Tensor:
    """The top bits of keys, in their order: 0 .. 2**_BITS - 1."""
    return (keys >> (64 - _BITS)) + (1 << (_BITS - 1))
