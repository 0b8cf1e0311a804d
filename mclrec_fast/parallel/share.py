"""How a batch is dealt to processes, and how what they compute becomes what one would compute.

A batch is cut into `parts`, runs of its samples of nearly equal work, which are the unit of
everything: a part is encoded by itself, its gradient is computed by itself, and the gradients are
added in one order (tree.py). Which process computes a part decides no bit. Draws are addressed by
the rows of the whole batch. A contrast over `global` negatives is between parts: every process has
the views of all of them, in the order of the samples, computes it whole, and goes on with the rows
of its own.
"""

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .group import ALONE, Group
from .tree import Span, deal, halves, subtrees


class Place(NamedTuple):
    """Where some samples stand in their batch: `first` .. `first + size` of `batch`.

    Attributes:
        token: what the first history's first token is among the tokens of the batch's histories.
    """

    first: int
    size: int
    batch: int
    token: int

    def rows(self, sequences: int, device: torch.device) -> Tensor:
        """The rows in the whole batch of these samples' sequences, int32 [sequences].

        Their histories, or histories and views: a run of `size` sequences for each kind.
        """
        own = torch.arange(self.first, self.first + self.size, dtype=torch.int32, device=device)
        kinds = torch.arange(sequences // self.size, dtype=torch.int32, device=device)
        return (kinds[:, None] * self.batch + own).flatten()


class Part(NamedTuple):
    """Some samples of a batch as a batch, and where they stand; None: it is the whole batch."""

    batch: Any  # models.base.Batch, which this package does not know
    place: Place | None


class Share:
    """What one process has of every batch.

    Attributes:
        group: the processes.
        parts: into how many parts a batch is cut; at least one for each process.
        negatives: "global": a contrast is over the whole batch; "local": within each part.
        divisible: whether a process can compute parts one by one. Autograd cannot, where a contrast
            is between them: to it a batch of fewer samples than parts is one part.
    """

    def __init__(
        self,
        parts: int = 1,
        group: Group = ALONE,
        negatives: str = "global",
        divisible: bool = True,
    ) -> None:
        """See the class."""
        self.group, self.parts, self.negatives = group, parts, negatives
        self.divisible = divisible
        self._batch: Any = None
        self._spans: list[Span] = []  # the samples of each part of that batch
        self._parts: list[Part] = []  # this process's

    def _alone(self, size: int) -> bool:
        """Whether this process computes every part itself.

        A batch of fewer samples than parts is computed whole by every process, to the same bits,
        and nothing is exchanged.
        """
        return self.group.size == 1 or size < self.parts

    def _own(self, size: int) -> Span:
        return (0, self.parts) if self._alone(size) else self.group.own(self.parts)

    def split(self, batch: Any) -> list[Part]:
        """This process's parts of a batch that have samples; the same objects for one batch."""
        size = len(batch.targets)
        if self.parts == 1 or (size < self.parts and not self.divisible):
            return [Part(batch, None)]
        if self._batch is not batch:
            starts = batch.sequences.offsets[: size + 1].tolist()  # of the histories
            self._batch, self._spans = batch, spans_of(starts, self.parts)
            self._parts = [
                Part(batch.of_samples(first, end), Place(first, end - first, size, starts[first]))
                for first, end in self._spans[slice(*self._own(size))]
                if end > first
            ]
        return self._parts

    # The contrast between parts.

    def gather(self, parts: Sequence[Part], views: Sequence[Tensor]) -> Tensor | None:
        """Both views of every sample of the batch, [2B, D]; None where negatives are local.

        Args:
            parts: what `split` returned.
            views: of each of them, [2b, D]: first views, then second.
        """
        if parts[0].place is None:
            return views[0]
        if self.negatives == "local":
            return None
        pairs = [torch.stack(of_part.chunk(2), 1) for of_part in views]  # [b, 2, D] each
        own = torch.cat(pairs)
        size = _place(parts[0]).batch
        if not self._alone(size):
            own = self.group.rows(own, self._counts(), often=True)
        return own.transpose(0, 1).flatten(0, 1)  # [2B, D], a copy

    def _counts(self) -> list[int]:
        """How many samples each process has of the batch that was split last."""
        dealt = deal(self.parts, self.group.size)
        return [self._spans[end - 1][1] - self._spans[first][0] for first, end in dealt]

    def own_rows(self, part: Part, gradient: Tensor) -> Tensor:
        """A part's rows [2b, D] of the gradient of what `gather` returned [2B, D].

        Times B / b, because `sum` counts a part by its share of the samples.
        """
        if part.place is None:
            return gradient
        first, size, batch, _ = part.place
        rows = [half[first : first + size] for half in gradient.chunk(2)]
        return torch.cat(rows) * (batch / size)

    def everyones(self, place: Place | None, *views: Tensor) -> tuple[Tensor, ...]:
        """The views of all samples [B, D], for autograd, from those of one part [b, D] each."""
        if place is None or self.negatives == "local" or self._alone(place.batch):
            return views
        return _Everyones.apply(self, place, *views)  # type: ignore[no-any-return]

    # The sums.

    def sum(
        self, parts: Sequence[Part], compute: Callable[[int], tuple[list[Tensor], list[Tensor]]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scalars and gradients of a batch from those of its parts, each the mean of its samples.

        Args:
            parts: what `split` returned.
            compute: the scalars and the gradients of a part, given its place among `parts`.

        Returns:
            The same of the whole batch; what a part counts is its share of the samples.
        """
        if parts[0].place is None:
            return compute(0)
        size = _place(parts[0]).batch
        by_first = {_place(part).first: number for number, part in enumerate(parts)}
        shapes = _Shapes()

        def of_part(first: int, end: int) -> Tensor:
            found = compute(by_first[first])
            return shapes.flatten(*found, (end - first) / size, self.group)

        own = self._own(size)
        found = [self._total(node, of_part) for node in subtrees(own, (0, self.parts))]
        sums = [of_node for of_node in found if of_node is not None]
        flat = sums[0] if self._alone(size) else self.group.sum_of_parts(sums, self.parts)
        return shapes.unflatten(flat)

    def _total(self, node: Span, of_part: Callable[[int, int], Tensor]) -> Tensor | None:
        """The sum of a node; None where it has no samples: it adds nothing, not even a zero.

        No function inside `sum`: one that calls itself is a cycle, and what its batch's encodings
        hold would live until Python looks for cycles.
        """
        first, end = self._spans[node[0]][0], self._spans[node[1] - 1][1]
        if first == end:
            return None
        if node[1] - node[0] == 1:
            return of_part(first, end)
        left, right = (self._total(half, of_part) for half in halves(node))
        if left is None or right is None:
            return right if left is None else left
        return left.add_(right)


class _Shapes:
    """What lies where in a flat array of scalars and gradients."""

    def __init__(self) -> None:
        self._scalars = 0
        self._shapes: list[torch.Size] = []

    def flatten(
        self, scalars: list[Tensor], gradients: list[Tensor], weight: float, group: Group
    ) -> Tensor:
        """[G], times `weight`."""
        self._scalars, self._shapes = len(scalars), [gradient.shape for gradient in gradients]
        flat = torch.cat([*(g.reshape(-1) for g in gradients), *(s.reshape(1) for s in scalars)])
        spare = group.padded(len(flat)) - len(flat)
        if spare:
            flat = torch.nn.functional.pad(flat, (0, spare))
        return flat.mul_(weight)

    def unflatten(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        sizes = [shape.numel() for shape in self._shapes]
        gradients = flat[: sum(sizes)].split(sizes) if sizes else ()
        scalars = flat[sum(sizes) : sum(sizes) + self._scalars]
        shaped = [g.view(shape) for g, shape in zip(gradients, self._shapes, strict=True)]
        return list(scalars.clone().unbind()), shaped


class _Everyones(torch.autograd.Function):
    """Rows of all processes; the gradient of a process's own, times B / b (see `own_rows`).

    Every process computes the same from them, so that no gradient has to be exchanged here.
    """

    @staticmethod
    def forward(ctx: Any, share: Share, place: Place, *views: Tensor) -> tuple[Tensor, ...]:
        ctx.place = place
        found = share.group.rows(torch.stack(views, 1), share._counts(), often=True)
        return tuple(view.contiguous() for view in found.unbind(1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        first, size, batch, _ = ctx.place
        return None, None, *(g[first : first + size] * (batch / size) for g in gradients)


ROW_WORK = 5
"""What a sample costs beside its tokens, in tokens: its row of the catalogue softmax, mostly."""


def spans_of(starts: Sequence[int], parts: int) -> list[Span]:
    """The samples of each part of a batch: runs of nearly equal work, none empty if it can be.

    Args:
        starts: where each sample's history begins among the tokens, and where they end [B + 1].
        parts: how many.
    """
    size = len(starts) - 1
    if size < parts:
        return deal(size, parts)
    work = [start + ROW_WORK * sample for sample, start in enumerate(starts)]
    bounds = [0]
    for part in range(1, parts):
        wanted = work[-1] * part // parts
        after = bisect.bisect_left(work, wanted)
        before = max(after - 1, 0)
        nearest = before if wanted - work[before] < work[after] - wanted else after
        bounds.append(min(max(nearest, bounds[-1] + 1), size - (parts - part)))
    return list(itertools.pairwise([*bounds, size]))


def _place(part: Part) -> Place:
    assert part.place is not None
    return part.place


WHOLE = Share()
"""One process that has the whole of every batch, in one part."""
