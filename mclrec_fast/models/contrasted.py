"""The contrast of a batch that is dealt in parts: between all of them, or within each.

By kernels, without autograd; what is contrasted, and how, is the model's. See parallel/share.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from ..parallel import Part, Share


class Contrast(NamedTuple):
    """Some terms of an objective, and gradients of what they count in it."""

    terms: list[Tensor]  # scalars
    views: Tensor | None  # [2b, D], of the views; None where nobody wants it
    weights: list[Tensor]  # of the weights that it goes through, where somebody wants them


Sums = tuple[list[Tensor], list[Tensor]]
"""Scalars, and gradients of weights."""


class Contrasted:
    """The contrast of the views of all parts."""

    def __init__(
        self,
        share: Share,
        parts: Sequence[Part],
        views: Sequence[Tensor],
        contrast: Callable[[Tensor], Contrast],
    ) -> None:
        """Compute it, where it is between the parts.

        Args:
            share: which negatives count.
            parts: this process's.
            views: of each of them, [2b, D]: first views, then second.
            contrast: of such views.
        """
        self._share, self._parts, self._views, self._contrast = share, parts, views, contrast
        everyones = share.gather(parts, views)
        self._between = None if everyones is None else contrast(everyones)

    def sum(self, rest: Callable[[int, Tensor | None], Sums] | None = None) -> Sums:
        """Everything of the batch: its terms and gradients, those of the contrast last.

        Args:
            rest: given a part's number and the gradient of its views, the other scalars and the
                gradients of the weights behind them; None where there are none.
        """

        def of_part(number: int) -> Sums:
            if self._between is None:
                found = self._contrast(self._views[number])
            else:
                found = Contrast([], self._own_rows(number, self._between.views), [])
            scalars, gradients = ([], []) if rest is None else rest(number, found.views)
            return [*scalars, *found.terms], [*gradients, *found.weights]

        between = self._between
        if between is None:
            return self._share.sum(self._parts, of_part)
        # Every process has these whole: they are not added up.
        scalars, gradients = ([], []) if rest is None else self._share.sum(self._parts, of_part)
        return [*scalars, *between.terms], [*gradients, *between.weights]

    def _own_rows(self, number: int, gradient: Tensor | None) -> Tensor | None:
        if gradient is None:
            return None
        return self._share.own_rows(self._parts[number], gradient)
