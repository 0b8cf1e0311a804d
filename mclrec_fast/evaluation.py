"""Full ranking: where the target stands among all items, and the metrics made of that.

The rank of a target is the number of items scoring strictly higher plus half the ties, rounded
down. Unmasked is the authors' protocol (the history stays in the ranking). Masked ranks what
`recommend` would answer: everything the user had before leaves the ranking, so that a target that
repeats the history cannot be reached and counts as a miss. The ranking itself is `ops.target_rank`;
nothing here sees a [users, items] matrix.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _native, _precision
from .config import DataConfig, TrainConfig, options_from
from .counted import best_by_score, ranks_by_score
from .data import Dataset, InteractionLog, Samples, load_other
from .data.other import Asked, Known, Past, ask, in_numbers_of, samples_left
from .errors import InputError, RunError
from .metrics import Ints, list_metrics, metrics
from .models.base import Model, Pass
from .ops import target_rank, top_k
from .parallel import ALONE, Group
from .parallel.tree import deal
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


def rank_samples(
    model: Model,
    table: SampleTable,
    *,
    batch_size: int,
    backend: str = "auto",
    after_batch: Callable[[int], None] = lambda _done: None,
    group: Group = ALONE,
) -> Ranks:
    """Rank every sample's target among all items, without dropout; see `rank_and_list`."""
    return rank_and_list(
        model,
        table,
        0,
        batch_size=batch_size,
        backend=backend,
        after_batch=after_batch,
        group=group,
    )[0]


@torch.no_grad()
def rank_and_list(
    model: Model,
    table: SampleTable,
    k: int,
    *,
    batch_size: int,
    backend: str = "auto",
    after_batch: Callable[[int], None] = lambda _done: None,
    group: Group = ALONE,
) -> tuple[Ranks, Ints]:
    """Rank every sample's target and take the best items, each history encoded once.

    Args:
        model: it is left in the mode it was in, and works without dropout here.
        table: the M samples.
        k: how many items; 0 for the ranks alone.
        batch_size: samples ranked at a time; the results do not depend on it.
        backend: who computes them.
        after_batch: called with the number of samples of each finished batch.
        group: the processes that share the samples out; each returns all of it.

    Returns:
        The ranks, and the k best items that each sample's user has not had, int64 [M, k], 0 where
        none is left.

    Raises:
        RunError: a score is not finite.
    """
    parts: list[Tensor] = []
    with evaluating(model):
        for index in _batches(table, batch_size, group):
            starts, lengths, targets = table.batch(index)
            h = model.represent_slices(table.items, starts, lengths, Pass(backend=backend))
            if not bool(h.isfinite().all()):
                raise RunError("the model represents a history by numbers that are not finite")
            seen, items = table.seen(index), model.items()
            try:
                found = target_rank(h, items, targets, *seen, backend=backend)
            except ValueError as error:
                raise RunError(f"the model's scores cannot be ranked: {error}") from error
            best = top_k(h, items, k, *seen, backend=backend)[1] if k else targets.new_empty(0, 0)
            repeated = _repeated(targets, *seen)
            columns = torch.stack([*found, repeated.long()], 1)
            parts.append(torch.cat([columns, best.view(len(index), k)], 1))
            after_batch(len(index) * group.size)
    nothing = torch.zeros(0, 5 + k, dtype=torch.int64, device=table.device)
    own = torch.cat(parts) if parts else nothing
    counts = [end - first for first, end in deal(len(table), group.size)]
    everyones = group.rows(own, counts).cpu().numpy()  # [M, 5 + k]
    unmasked, unmasked_ties, masked, masked_ties, again = (
        np.ascontiguousarray(column) for column in everyones[:, :5].T
    )
    repeats = again.astype(np.bool_)
    masked[repeats] = UNREACHABLE
    users = table.users.cpu().numpy()
    ranks = Ranks(users, unmasked, unmasked_ties, masked, masked_ties, repeats)
    return ranks, everyones[:, 5:]


def _batches(table: SampleTable, batch_size: int, group: Group) -> Iterator[Tensor]:
    """This process's samples, int64 [b] at a time."""
    first, end = group.own(len(table))
    for start in range(first, end, batch_size):
        yield torch.arange(start, min(start + batch_size, end), device=table.device)


def _repeated(targets: Tensor, seen: Tensor, offsets: Tensor) -> Tensor:
    """Which targets [B] are among their own items, those between two offsets [B + 1]: bool [B]."""
    owner = torch.repeat_interleave(targets, offsets.diff())  # [K]
    hits = torch.nn.functional.pad((seen == owner).cumsum(0), (1, 0))  # [K + 1]
    return hits[offsets[1:]] > hits[offsets[:-1]]


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
    group: Group = ALONE,
) -> dict[str, Any]:
    """The metrics of a model and of the popularity floor, on validation and test.

    Args:
        model: what is measured, on the device it lies on.
        dataset: of the items the model knows.
        train: the cut-offs, the backend and the batch size of ranking.
        keep: receives each split's name and the model's ranks.
        after_batch: called with the number of samples of each batch that the model has ranked.
        group: the processes that share the samples out; each returns everything.

    Returns:
        `valid` and `test` (None where the split has none), and `popularity` with the same.

    Raises:
        RunError: a score is not finite.
    """
    parts = {name: getattr(dataset.split, name) for name in SPLITS}
    counts = dataset.training_counts()
    return measure_samples(
        model, dataset.log, parts, counts, train, keep=keep, after_batch=after_batch, group=group
    )


def measure_samples(
    model: Model,
    log: InteractionLog,
    parts: Mapping[str, Samples | None],
    counts: NDArray[np.float32] | None,
    train: TrainConfig,
    *,
    keep: Callable[[str, Ranks], None] = lambda _name, _ranks: None,
    after_batch: Callable[[int], None] = lambda _done: None,
    group: Group = ALONE,
) -> dict[str, Any]:
    """The same for any samples of a log in the model's item numbers.

    Args:
        model: what is measured, on the device it lies on.
        log: the interactions.
        parts: the samples by the names that the result has them under.
        counts: how often training saw each item, [V]; without it there is no popularity floor
            and no word on the lists.
        train: the cut-offs, the backend and the batch size of ranking.
        keep: receives each part's name and the model's ranks.
        after_batch: called with the number of samples of each batch that the model has ranked.
        group: the processes that share the samples out; each returns everything.

    Raises:
        RunError: a score is not finite.
    """
    of_model: dict[str, Any] = dict.fromkeys(parts)
    of_floor: dict[str, Any] = dict.fromkeys(parts)
    how: dict[str, Any] = {
        "batch_size": train.eval_batch_size,
        "backend": train.backend,
        "after_batch": after_batch,
        "group": group,
    }
    for name, samples in parts.items():
        if samples is None:
            continue
        table = SampleTable(log, samples, model.options.max_length, model.device)
        longest = min(max(train.cutoffs), model.n_classes - 1) if counts is not None else 0
        ranks, lists = rank_and_list(model, table, longest, **how)
        keep(name, ranks)
        of_model[name] = summary(ranks, train.cutoffs)
        if counts is None:
            continue
        of_model[name]["lists"] = list_metrics(lists, counts, train.cutoffs)
        of_floor[name] = summary(popularity_ranks(counts, table), train.cutoffs)
        lists = best_by_score(counts, table, longest)
        of_floor[name]["lists"] = list_metrics(lists, counts, train.cutoffs)
    return of_model | {"popularity": of_floor if counts is not None else None}


def popularity_ranks(counts: NDArray[np.float32], table: SampleTable) -> Ranks:
    """The ranks of the popularity floor: every item scores its count [V], whoever is asked."""
    unmasked, unmasked_ties, masked, masked_ties, again = ranks_by_score(counts, table)
    masked[again] = UNREACHABLE
    return Ranks(table.users.cpu().numpy(), unmasked, unmasked_ties, masked, masked_ties, again)


def evaluate_model(
    model: Model,
    data: "Dataset | str | os.PathLike[str]",
    targets: str | None,
    past: "Dataset | None",
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """See `Model.evaluate`."""
    model.require_weights()
    train = options_from(TrainConfig, settings, "evaluate")
    backend = _native.backend(train.backend, model.device)
    with _precision.rounding(train.precision, model.device, backend):
        return _figures_of(model, data, targets, past, train)


def _figures_of(
    model: Model,
    data: "Dataset | str | os.PathLike[str]",
    targets: str | None,
    past: "Dataset | None",
    train: TrainConfig,
) -> dict[str, Any]:
    assert model.item_ids is not None
    if not isinstance(data, Dataset):
        data, targets = load_other(DataConfig(data=os.fspath(data))), targets or "last"
    if past is not None:
        targets = targets or "last"
    if targets is not None:
        before = None if past is None else past_of(past, model.item_ids)
        asked = ask(data.log, model.item_ids, targets=targets, before=before)
        return measure_other(model, asked, before, train)
    if same_items(model, data):
        return measure(model, data, train)
    log, kept = in_numbers_of(data.log, model.item_ids)
    left = {name: samples_left(getattr(data.split, name), data.log, kept) for name in SPLITS}
    parts = {name: samples if samples and samples.size else None for name, samples in left.items()}
    if not any(parts.values()):
        require_items(model, data)
    known = Known(
        rows=data.log.n_interactions,
        known_rows=log.n_interactions,
        items=data.log.n_items,
        known_items=len(np.unique(log.items)),
        users=data.log.n_users,
    )
    counts = past_of(data, model.item_ids).counts()
    return measure_samples(model, log, parts, counts, train) | {"known": known.to_dict()}


def past_of(dataset: Dataset, item_ids: NDArray[Any]) -> Past:
    """The log that a model learned from, in its item numbers; rows of other items are left out."""
    log, kept = in_numbers_of(dataset.log, item_ids)
    trained = np.zeros(log.n_users, np.int64)
    np.maximum.at(trained, dataset.split.train.users, dataset.split.train.ends.astype(np.int64) + 1)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    first = dataset.log.offsets[:-1]
    return Past(log, before[first + trained] - before[first])


def measure_other(
    model: Model,
    asked: Asked,
    before: Past | None,
    train: TrainConfig,
    after_batch: Callable[[int], None] = lambda _done: None,
) -> dict[str, Any]:
    """The metrics on another log: under `test`, and what of the log the model knows as `known`."""
    counts = None if before is None else before.counts()
    parts: dict[str, Samples | None] = {"valid": None, "test": asked.samples}
    found = measure_samples(model, asked.log, parts, counts, train, after_batch=after_batch)
    return found | {"known": asked.known.to_dict()}


def same_items(model: Model, dataset: Dataset) -> bool:
    """Whether a data set's items are those that a model knows, in the same order."""
    mine, theirs = model.item_ids, dataset.log.item_ids
    assert mine is not None
    return len(mine) == len(theirs) and bool(np.all(mine[1:] == theirs[1:]))


def require_items(model: Model, dataset: Dataset) -> None:
    """Refuse a data set whose items are not those that a model knows.

    Raises:
        InputError: naming the first that differs.
    """
    mine, theirs = model.item_ids, dataset.log.item_ids
    assert mine is not None
    if same_items(model, dataset):
        return
    text = f"the model knows {len(mine) - 1} items, {dataset.log.source} has {len(theirs) - 1}"
    if len(mine) == len(theirs):
        row = int(np.flatnonzero(mine[1:] != theirs[1:])[0]) + 1
        text = f"item {row} is {mine[row]!r} for the model and {theirs[row]!r} for the data set"
    raise InputError(
        f"{text}: a model answers and trains on the items it was made with; fit_partial makes room "
        "for new ones, another catalogue needs a new model"
    )
