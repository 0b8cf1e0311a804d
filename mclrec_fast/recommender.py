"""Recommendations of a trained model for any history, in the item ids of its data.

A history is a list of item ids, oldest first; the model need not have met whoever it belongs to.
Every item of the catalogue is scored (`ops.top_k`): nothing here is approximate.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _native
from .config import DEFAULT_K, TrainConfig
from .data import Dataset, IdIndex, InteractionLog
from .data.ids import external_id
from .errors import InputError
from .models.base import Model, Pass
from .ops import top_k


class Recommendations(NamedTuple):
    """The best items of N histories.

    Attributes:
        items: for each history the ids of its items, int or str, best first: k of them, fewer where
            the catalogue has no more, and none where the history holds no item that the model
            knows.
        scores: the items' scores, in the same form; they compare items of one history only.
        unknown: int64 [N], items of each history that the model does not know and that were passed
            over.
        users: whose histories they are, [N]; None where nobody said.
    """

    items: list[list[Any]]
    scores: list[list[float]]
    unknown: NDArray[np.int64]
    users: list[Any] | None = None

    def to_frame(self) -> Any:
        """A pandas DataFrame of `user_id`, `item_id`, `score` and `rank` (from 1), best first.

        Users are numbered from 0 where nobody said who they are.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("to_frame needs pandas: pip install pandas") from None
        sizes = [len(items) for items in self.items]
        users = range(len(sizes)) if self.users is None else self.users
        return pandas.DataFrame(
            {
                "user_id": np.repeat(np.array(list(users)), sizes),
                "item_id": [item for items in self.items for item in items],
                "score": np.array([score for scores in self.scores for score in scores]),
                "rank": np.concatenate([np.arange(1, size + 1) for size in [*sizes, 0]]),
            }
        )


class Recommender:
    """A trained model that answers; see `load`.

    Answering changes nothing: several threads may ask one recommender.
    """

    def __init__(
        self,
        model: Model,
        *,
        batch_size: int = TrainConfig.eval_batch_size,
        backend: str = "auto",
    ) -> None:
        """Put a recommender together.

        Args:
            model: a model with weights; it is put into evaluation mode.
            batch_size: histories at a time; the answers do not depend on it.
            backend: who ranks.
        """
        model.require_weights()
        assert model.item_ids is not None
        self._model, self._item_ids = model.eval(), model.item_ids
        self._index = IdIndex(model.item_ids, first=1, missing=0)
        self._batch_size, self._backend = batch_size, backend

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], *, device: str = "cpu", backend: str = "auto"
    ) -> "Recommender":
        """Load the best weights of a run, or a saved model.

        Args:
            run: its directory.
            device: "cpu" or "cuda".
            backend: "auto", "torch" or "native".

        Raises:
            InputError: there is no run or it has no weights yet, its files do not fit each other,
                or the device or backend is not available.
        """
        from .runs.loading import load_run

        loaded = load_run(Path(run), "run", device=device)
        _native.backend(backend, torch.device(device))
        size = loaded.config.train.eval_batch_size
        return cls(loaded.model, batch_size=size, backend=backend)

    def is_of(self, model: Model) -> bool:
        """Whether it answers for this model as it is now."""
        return self._model is model and self._item_ids is model.item_ids and not model.training

    @property
    def item_ids(self) -> NDArray[Any]:
        """The catalogue: external ids of all items that can be recommended."""
        return self._item_ids[1:]

    def recommend(
        self,
        histories: Iterable[Iterable[Any]] | Mapping[Any, Iterable[Any]] | Dataset,
        k: int = DEFAULT_K,
        *,
        exclude_seen: bool = True,
    ) -> Recommendations:
        """The k best next items of each history.

        Args:
            histories: lists of external item ids, oldest first, or such lists by user; 7 and "7"
                are one id. Or a data set: the whole history of each of its users. The model looks
                at the last L items it knows.
            k: how many, at least 1.
            exclude_seen: never recommend an item of the history, the older ones included.

        Raises:
            TypeError: a history is a text or a number instead of a list of items.
            InputError: an item is neither an integer (of any kind) nor text; its place is named.
            ValueError: k is below 1.
        """
        if isinstance(histories, Dataset):
            return self.recommend_log(histories.log, k, exclude_seen=exclude_seen)
        found = self._recommend(*self._known(histories), k, exclude_seen)
        if isinstance(histories, Mapping):
            found = found._replace(users=list(histories))
        return found

    def recommend_log(
        self,
        log: InteractionLog,
        k: int = DEFAULT_K,
        *,
        exclude_seen: bool = True,
        after_batch: Callable[[int], None] = lambda _done: None,
    ) -> Recommendations:
        """The same for every user of a log, in its order of users.

        Args:
            log: any interactions; items that the model does not know are passed over.
            k: how many, at least 1.
            exclude_seen: never recommend an item of the history.
            after_batch: called with the number of histories of each finished batch.

        Raises:
            ValueError: k is below 1.
        """
        ours = np.concatenate([np.zeros(1, np.int32), self._index.find(log.item_ids[1:].tolist())])
        found = self._recommend(ours[log.items], log.lengths, k, exclude_seen, after_batch)
        return found._replace(users=log.user_ids.tolist())

    @torch.no_grad()
    def encode(self, histories: Iterable[Iterable[Any]]) -> NDArray[Any]:
        """The representation of each history, float32 [N, D]; see `Model.encode`."""
        items, counts = self._known(histories)
        width = self._model.items().shape[1]
        encoded = np.full((len(counts), width), np.nan, np.float32)
        for batch in self._batches(items, counts):
            encoded[batch.rows] = self._represent(batch).float().cpu().numpy()
        return encoded

    def _known(self, histories: Iterable[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Histories as internal ids end to end [I], 0 where unknown, and how many each has [N]."""
        given = histories.values() if isinstance(histories, Mapping) else histories
        lists = [_as_list(number, history) for number, history in enumerate(given)]
        counts = np.array([len(history) for history in lists], dtype=np.int64)
        try:
            items = self._index.find(item for history in lists for item in history)
        except InputError as error:
            raise _in_its_history(lists) or error from None
        return items, counts

    @torch.no_grad()
    def _recommend(
        self,
        items: NDArray[np.int32],
        counts: NDArray[np.int64],
        k: int,
        exclude_seen: bool,
        after_batch: Callable[[int], None] = lambda _done: None,
    ) -> Recommendations:
        """Of histories end to end: items [I], 0 where unknown; counts [N]."""
        if not isinstance(k, int | np.integer) or isinstance(k, bool):
            raise TypeError(f"k must be a whole number, got {k!r}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        k = min(int(k), len(self.item_ids))
        owner = np.repeat(np.arange(len(counts)), counts)  # [I]
        known = np.bincount(owner[items != 0], minlength=len(counts))  # [N]
        answer = Recommendations([[] for _ in counts], [[] for _ in counts], counts - known)
        for batch in self._batches(items, counts):
            h = self._represent(batch)  # [B, D]
            seen, offsets = batch.seen if exclude_seen else batch.nothing
            found = top_k(h, self._model.items(), k, seen, offsets, backend=self._backend)
            scores, best = (tensor.cpu().numpy() for tensor in found)
            for row, of_row, ids in zip(batch.rows, scores, best, strict=True):
                left = ids != 0  # where the catalogue had no more
                answer.items[row] = self._item_ids[ids[left]].tolist()
                answer.scores[row] = of_row[left].tolist()
            after_batch(len(batch.rows))
        return answer

    def _represent(self, batch: "_Histories") -> Tensor:
        at = Pass(backend=self._backend)
        lengths = batch.sizes.clamp_max(self._model.options.max_length)
        starts = batch.stops - lengths
        return self._model.represent_slices(batch.items, starts, lengths.to(torch.int32), at)

    def _batches(
        self, items: NDArray[np.int32], counts: NDArray[np.int64]
    ) -> "Iterator[_Histories]":
        """The histories that can be answered, some at a time, without their unknown items."""
        owner = np.repeat(np.arange(len(counts)), counts)  # [I]
        known = np.bincount(owner[items != 0], minlength=len(counts))  # [N]
        rows = np.flatnonzero(known) if self._model.needs_history else np.arange(len(counts))
        device = self._model.device
        seen = torch.from_numpy(items[items != 0]).to(device)  # [K], what is left of all histories
        ends = torch.from_numpy(np.cumsum(known[rows])).to(device)  # [R], where each one's end
        for first in range(0, len(rows), self._batch_size):
            batch = rows[first : first + self._batch_size]
            sizes = torch.from_numpy(known[batch]).to(device)
            yield _Histories(batch, seen, ends[first : first + self._batch_size], sizes)


class _Histories(NamedTuple):
    """Some histories: slices of internal ids.

    Attributes:
        rows: which ones, [B].
        items: int32 [K], all histories' items end to end.
        stops: int64 [B], where each one's end.
        sizes: int64 [B], items of each.
    """

    rows: NDArray[np.int64]
    items: Tensor
    stops: Tensor
    sizes: Tensor

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """Their items, and offsets [B + 1] of each one's."""
        begins = self.stops - self.sizes
        offsets = torch.cat((begins, self.stops[-1:])) - begins[0]
        return self.items[int(begins[0]) : int(self.stops[-1])], offsets

    @property
    def nothing(self) -> tuple[Tensor, Tensor]:
        """No items, in the same form."""
        return self.items[:0], self.stops.new_zeros(len(self.stops) + 1)


def _in_its_history(lists: list[Sequence[Any]]) -> InputError | None:
    """The error of the first item that is no id, naming its history."""
    for number, history in enumerate(lists):
        for place, item in enumerate(history):
            try:
                external_id(item, place)
            except InputError as error:
                return InputError(f"histories[{number}], {error}")
    return None


def _as_list(number: int, history: Any) -> Sequence[Any]:
    if isinstance(history, str | bytes) or not isinstance(history, Iterable):
        raise TypeError(
            f"histories[{number}] is {history!r}: a history is a list of item ids, so one history "
            "alone is recommend([[...]])"
        )
    return list(history)
