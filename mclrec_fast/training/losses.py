"""The losses of an epoch: kept on the device, looked at every few steps.

Reading a loss from a GPU waits for it; so losses lie in a ring and are read together. A loss that
is not finite is found then, and named by its own step.
"""

from typing import NamedTuple

import torch
from torch import Tensor

READ_EVERY = 64


class NotFinite(NamedTuple):
    """The first loss that was not finite."""

    name: str
    value: float
    step: int


class LossBook:
    """Sums of the losses over an epoch's samples, as float64 in the order of the steps.

    The sums do not depend on when the ring is read: they are the same for a run that stopped and
    went on in the middle.
    """

    def __init__(self, sums: dict[str, float]) -> None:
        """Goes on from `sums`, which is updated in place."""
        self.sums = sums
        self._names: tuple[str, ...] = ()
        self._ring: list[tuple[Tensor, int, int]] = []

    def add(self, losses: dict[str, Tensor], samples: int, step: int) -> NotFinite | None:
        """Takes the mean losses of one batch; reads the ring when it is full.

        Args:
            losses: detached scalars by name, the same names every time.
            samples: samples of the batch.
            step: its number, from 1.
        """
        self._names = tuple(losses)
        self._ring.append((torch.stack(list(losses.values())), samples, step))
        return self.read() if len(self._ring) >= READ_EVERY else None

    def read(self) -> NotFinite | None:
        """Adds what lies in the ring to the sums; the first loss that is not finite ends it."""
        if not self._ring:
            return None
        rows = torch.stack([row for row, _, _ in self._ring]).double().cpu()  # [steps, losses]
        for values, (_, samples, step) in zip(rows.tolist(), self._ring, strict=True):
            for name, value in zip(self._names, values, strict=True):
                if not abs(value) < float("inf"):
                    return NotFinite(name, value, step)
                self.sums[name] = self.sums.get(name, 0.0) + value * samples
        self._ring.clear()
        return None
