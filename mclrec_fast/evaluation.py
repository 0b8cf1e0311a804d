"""Full ranking: where the target stands among all items, and the metrics made of that.

The rank of a target is the number of items scoring strictly higher plus half the ties, rounded
down. Unmasked is the authors' protocol (the history stays in the ranking). Masked ranks what
`recommend` would answer: everything the user had before leaves the ranking, so that a target that
repeats the history cannot be reached and counts as a miss. The ranking itself is `ops.target_rank`;
nothing here sees a [users, items] matrix.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import TrainConfig, options_from
from .data import Dataset
from .errors import InputError, RunError
from .metrics import Ints, list_metrics, metrics
from .models.base import Model, Pass
from .models.popularity import Popularity
from .ops import target_rank, top_k
from .sampling import SampleTable

SPLITS = ("valid", "test")
UNREACHABLE = 2**31 - 1
"""The masked rank of a target that repeats the history: behind every cut-off."""


class Ranks(NamedTuple):
    """Where every sample's target stands, from 0.

    Attributes:
        users: int32 [M], rows of the log.
        unmasked, masked: int64 [M], ranks; masked, that of a repeated target is `UNREACHABLE`.
        unmasked_ties, masked_ties: int64 [M], other items that score exactly like the target.
        repeated: bool [M], whether the user had the target before.
    """

    users: NDArray[np.int32]
    unmasked: Ints
    unmasked_ties: Ints
    masked: Ints
    masked_ties: Ints
    repeated: NDArray[np.bool_]


def summary(ranks: Ranks, cutoffs: tuple[int, ...]) -> dict[str, Any]:
    """The metrics of both protocols, and how many targets tied or repeat their history."""
    return {
        "samples": len(ranks.users),
        "repeated": int(np.count_nonzero(ranks.repeated)),
        "unmasked": metrics(ranks.unmasked, cutoffs)
        | {"tied": int(np.count_nonzero(ranks.unmasked_ties))},
        "masked": metrics(ranks.masked, cutoffs)
        | {"tied": int(np.count_nonzero(ranks.masked_ties))},
    }


@torch.no_grad()
def rank_samples(
    model: Model,
    table: SampleTable,
    *,
    batch_size: int,
    backend: str = "auto",
    after_batch: Callable[[int], None] = lambda _done: None,
) -> Ranks:
    """Rank every sample's target among all items, without dropout.

    Args:
        model: it is left in the mode it was in.
        table: the samples.
        batch_size: samples ranked at a time; the ranks do not depend on it.
        backend: who computes the ranks.
        after_batch: called with the number of samples of each finished batch.

    Raises:
        RunError: a score is not finite.
    """
    parts: list[list[NDArray[Any]]] = []
    with evaluating(model):
        for start in range(0, len(table), batch_size):
            index = torch.arange(start, min(start + batch_size, len(table)), device=table.device)
            starts, lengths, targets = table.batch(index)
            h = model.represent_slices(table.items, starts, lengths, Pass(backend=backend))
            if not bool(h.isfinite().all()):
                raise RunError("the model represents a history by numbers that are not finite")
            seen = table.seen(index)
            try:
                found = target_rank(h, model.items(), targets, *seen, backend=backend)
            except ValueError as error:
                raise RunError(f"the model's scores cannot be ranked: {error}") from error
            repeated = _repeated(targets, *seen)
            parts.append([tensor.cpu().numpy() for tensor in (*found, repeated)])
            after_batch(len(index))
    unmasked, unmasked_ties, masked, masked_ties, again = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    masked[again] = UNREACHABLE
    return Ranks(table.users.cpu().numpy(), unmasked, unmasked_ties, masked, masked_ties, again)


def _repeated(targets: Tensor, seen: Tensor, offsets: Tensor) -> Tensor:
    """Which targets [B] are among their own items, those between two offsets [B + 1]: bool [B]."""
    owner = torch.repeat_interleave(targets, offsets.diff())  # [K]
    hits = torch.nn.functional.pad((seen == owner).cumsum(0), (1, 0))  # [K + 1]
    return hits[offsets[1:]] > hits[offsets[:-1]]


@torch.no_grad()
def best_items(
    model: Model,
    table: SampleTable,
    k: int,
    *,
    batch_size: int,
    backend: str = "auto",
    after_batch: Callable[[int], None] = lambda _done: None,
) -> Ints:
    """The k best items that each sample's user has not had, int64 [M, k], 0 where none is left."""
    parts = []
    with evaluating(model):
        for start in range(0, len(table), batch_size):
            index = torch.arange(start, min(start + batch_size, len(table)), device=table.device)
            starts, lengths, _ = table.batch(index)
            h = model.represent_slices(table.items, starts, lengths, Pass(backend=backend))
            _, items = top_k(h, model.items(), k, *table.seen(index), backend=backend)
            parts.append(items.cpu().numpy())
            after_batch(len(index))
    return np.concatenate(parts)


class evaluating:
    """While entered, the model has no dropout."""

    def __init__(self, model: Model) -> None:
        self._model, self._training = model, model.training

    def __enter__(self) -> None:
        self._model.eval()

    def __exit__(self, *_: object) -> None:
        self._model.train(self._training)


def measure(
    model: Model,
    dataset: Dataset,
    train: TrainConfig,
    *,
    keep: Callable[[str, Ranks], None] = lambda _name, _ranks: None,
    after_batch: Callable[[int], None] = lambda _done: None,
) -> dict[str, Any]:
    """The metrics of a model and of the popularity floor, on validation and test.

    Args:
        model: what is measured, on the device it lies on.
        dataset: of the items the model knows.
        train: the cut-offs, the backend and the batch size of ranking.
        keep: receives each split's name and the model's ranks.
        after_batch: called with the number of samples of each batch that the model has ranked.

    Returns:
        `valid` and `test` (None where the split has none), and `popularity` with the same.

    Raises:
        RunError: a score is not finite.
    """
    floor = Popularity()
    floor.start(dataset.log.item_ids, 0)
    floor.learn(dataset)
    floor.to(model.device)
    counts = dataset.training_counts()
    result: dict[str, Any] = dict.fromkeys(SPLITS)
    of_floor: dict[str, Any] = dict.fromkeys(SPLITS)
    size, backend = train.eval_batch_size, train.backend
    for name in SPLITS:
        table = SampleTable.of(dataset, name, model.options.max_length, model.device)
        if table is None:
            continue
        for who, place, tell in ((model, result, after_batch), (floor, of_floor, _say_nothing)):
            ranks = rank_samples(who, table, batch_size=size, backend=backend, after_batch=tell)
            if who is model:
                keep(name, ranks)
            longest = min(max(train.cutoffs), model.n_classes - 1)
            lists = best_items(who, table, longest, batch_size=size, backend=backend)
            place[name] = summary(ranks, train.cutoffs) | {
                "lists": list_metrics(lists, counts, train.cutoffs)
            }
    return result | {"popularity": of_floor}


def _say_nothing(_done: int) -> None:
    pass


def evaluate_model(model: Model, dataset: Dataset, settings: Mapping[str, Any]) -> dict[str, Any]:
    """See `Model.evaluate`."""
    model.require_weights()
    require_items(model, dataset)
    return measure(model, dataset, options_from(TrainConfig, settings, "evaluate"))


def require_items(model: Model, dataset: Dataset) -> None:
    """Refuse a data set whose items are not those that a model knows.

    Raises:
        InputError: naming the first that differs.
    """
    mine, theirs = model.item_ids, dataset.log.item_ids
    assert mine is not None
    if len(mine) == len(theirs) and bool(np.all(mine[1:] == theirs[1:])):
        return
    text = f"the model knows {len(mine) - 1} items, {dataset.log.source} has {len(theirs) - 1}"
    if len(mine) == len(theirs):
        row = int(np.flatnonzero(mine[1:] != theirs[1:])[0]) + 1
        text = f"item {row} is {mine[row]!r} for the model and {theirs[row]!r} for the data set"
    raise InputError(
        f"{text}: a model answers and trains on the items it was made with; make a new one for "
        "another catalogue"
    )
