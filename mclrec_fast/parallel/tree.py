"""The one order in which the parts of a batch are added up, whoever computed them.

A binary tree over the parts, halved down to single ones. A process adds up the whole subtrees that
its own parts make; what is left to add is the same few additions for everybody. So a sum has the
same bits for any number of processes.
"""

from collections.abc import Callable
from typing import TypeVar

Span = tuple[int, int]
"""Parts first .. end of a batch: a node of the tree."""

_Sum = TypeVar("_Sum")


def deal(parts: int, processes: int) -> list[Span]:
    """The parts of each process: runs of nearly equal length, in order."""
    return [
        (process * parts // processes, (process + 1) * parts // processes)
        for process in range(processes)
    ]


def halves(node: Span) -> tuple[Span, Span]:
    """Both children of a node of two parts or more."""
    middle = (node[0] + node[1]) // 2
    return (node[0], middle), (middle, node[1])


def subtrees(own: Span, node: Span) -> list[Span]:
    """The largest nodes below `node` that lie inside `own`, in order."""
    if own[0] <= node[0] and node[1] <= own[1]:
        return [node]
    if node[1] <= own[0] or own[1] <= node[0]:
        return []
    return [found for half in halves(node) for found in subtrees(own, half)]


def add_up(
    node: Span, known: Callable[[Span], _Sum | None], add: Callable[[_Sum, _Sum], _Sum]
) -> _Sum:
    """The sum of a node.

    Args:
        node: which.
        known: the sum of a node where that is known; it is, of every single part that is reached.
        add: the sum of two, left and right.
    """
    found = known(node)
    if found is not None:
        return found
    left, right = halves(node)
    return add(add_up(left, known, add), add_up(right, known, add))
