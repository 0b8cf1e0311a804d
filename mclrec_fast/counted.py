"""Ranks and lists of a scorer that gives every item one score, the same for everybody.

The popularity floor: everything follows from one sorted list of the scores and from what each user
had, so that nothing is scored user by user. The figures are those of
`evaluation.rank_and_list` with `models.Popularity`, to the digit.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from .sampling import SampleTable

_SAMPLES = 1 << 14
"""Samples looked at together."""

_Ints = NDArray[np.int64]


def ranks_by_score(
    scores: NDArray[np.float32], table: SampleTable
) -> tuple[_Ints, _Ints, _Ints, _Ints, NDArray[np.bool_]]:
    """Where every sample's target stands among the items 1 .. V - 1.

    Args:
        scores: float32 [V], finite; entry 0 is padding and not ranked.
        table: M samples.

    Returns:
        int64 [M] each: rank (items that score higher, and half the ties, rounded down), ties, and
        both without the items that the user had before, in which the target itself stays; bool
        [M], whether the user had the target.
    """
    ordered = np.sort(scores[1:])
    found = []
    for targets, owner, items in _chunks(table, len(scores)):
        score = scores[targets]
        upto = np.searchsorted(ordered, score, "right")
        higher = len(ordered) - upto
        ties = upto - np.searchsorted(ordered, score, "left") - 1
        again = items == targets[owner]
        repeated = np.bincount(owner[again], minlength=len(targets)) > 0
        had = (scores[items] - score[owner])[~again]  # of other items
        seen_higher, seen_ties = (
            np.bincount(owner[~again][which], minlength=len(targets))
            for which in (had > 0, had == 0)
        )
        left = ties - seen_ties
        found.append((higher + ties // 2, ties, higher - seen_higher + left // 2, left, repeated))
    ranks, ties, masked, masked_ties, repeated = (
        np.concatenate(column) for column in zip(*found, strict=True)
    )
    return ranks, ties, masked, masked_ties, repeated


def best_by_score(scores: NDArray[np.float32], table: SampleTable, k: int) -> _Ints:
    """The k best items that each sample's user has not had, int64 [M, k], 0 where none is left.

    Args:
        scores: float32 [V], finite; item 0 is padding and never returned.
        table: M samples.
        k: how many; ties go to the lower item.
    """
    classes = len(scores)
    order = np.argsort(-scores[1:], kind="stable") + 1  # [V - 1], best first
    place = np.empty(classes, np.int64)
    place[order] = np.arange(classes - 1)
    order = np.append(order, np.zeros(k, np.int64))  # what nobody has left is item 0
    found = [np.zeros((0, k), np.int64)]
    for targets, owner, items in _chunks(table, classes):
        # Of the places a user has had, in order, the i-th has so many free ones before it:
        had = np.sort(owner * classes + place[items])  # [K]
        start = np.searchsorted(owner, np.arange(len(targets)))  # [n], owners ascend
        free_before = had - owner * classes - (np.arange(len(had)) - start[owner])
        keys = owner * classes + free_before  # ascending
        wanted = np.arange(len(targets))[:, None] * classes + np.minimum(np.arange(k), classes - 1)
        passed = np.searchsorted(keys, wanted, "right") - start[:, None]
        found.append(order[np.minimum(np.arange(k) + passed, classes - 1)])
    return np.concatenate(found)


def _chunks(table: SampleTable, classes: int) -> Iterator[tuple[_Ints, _Ints, _Ints]]:
    """Targets [n] of some samples, and each item they had before once: owners and items [K].

    Owners count from 0 in every chunk and ascend.
    """
    for first in range(0, len(table), _SAMPLES):
        index = torch.arange(first, min(first + _SAMPLES, len(table)), device=table.device)
        seen, offsets = (tensor.cpu().numpy() for tensor in table.seen(index))
        owner = np.repeat(np.arange(len(index)), np.diff(offsets))
        pairs = np.unique(owner * classes + seen)
        owner, items = np.divmod(pairs, classes)
        real = items > 0
        yield table.batch(index)[2].cpu().numpy(), owner[real], items[real]
