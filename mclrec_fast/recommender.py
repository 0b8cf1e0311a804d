"""Recommendations of a trained model for any history, in the item ids of its data.

A history is a list of item ids, oldest first; the model need not have met whoever it belongs to.
Every item of the catalogue is scored (`ops.top_k`): nothing here is approximate.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _native
from .answers import Answers, Recommendations
from .config import DEFAULT_K, TrainConfig
from .data import Dataset, IdIndex, InteractionLog, pick_users
from .data.ids import external_id
from .errors import InputError
from .filters import Filters, Numbers, OwnLists
from .models.base import Model, Pass
from .ops import top_k


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
        self._filters: Filters | None = None
        self._last_numbers: tuple[NDArray[Any], NDArray[np.int32]] | None = None

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

    @property
    def all_item_ids(self) -> NDArray[Any]:
        """External ids [V] by the items' numbers in `Answers`; entry 0 is unused."""
        return self._item_ids

    def recommend(
        self,
        histories: Iterable[Iterable[Any]] | Mapping[Any, Iterable[Any]] | Dataset,
        k: int = DEFAULT_K,
        *,
        users: Iterable[Any] | None = None,
        items: Any = None,
        exclude: Any = None,
        items_per_user: Any = None,
        exclude_per_user: Any = None,
        exclude_seen: bool = True,
    ) -> Recommendations:
        """The k best next items of each history.

        Args:
            histories: lists of external item ids, oldest first, or such lists by user; 7 and "7"
                are one id. Or a data set: the whole history of each of its users. The model looks
                at the last L items it knows.
            k: how many, at least 1.
            users: of a data set, these alone, by their ids.
            items: recommend these alone: item ids, or such lists by user, or one list a history.
            exclude: never recommend these, in the same forms. Unknown items of any list are passed
                over with an `UnknownItemsWarning`.
            items_per_user: to these users recommend these alone: lists of item ids by user, or a
                table of a user and an item a row. A user who is not named may get anything.
            exclude_per_user: never recommend these to these users, in the same forms.
            exclude_seen: never recommend an item of the history, the older ones included.

        Raises:
            TypeError: a history is a text or a number instead of a list of items.
            InputError: an item is neither an integer (of any kind) nor text, its place is named;
                the lists leave nothing to recommend, or do not fit the histories.
            ValueError: k is below 1.
        """
        lists = {
            "items": items,
            "exclude": exclude,
            "items_per_user": items_per_user,
            "exclude_per_user": exclude_per_user,
        }
        if isinstance(histories, Dataset):
            return self.recommend_log(
                histories.log, k, users=users, exclude_seen=exclude_seen, **lists
            )
        if users is not None:
            raise InputError(
                "users and histories are both given: users= picks users of a data set; histories "
                "by user are a dict"
            )
        named = list(histories) if isinstance(histories, Mapping) else None
        known, counts = self._known(histories)
        filters = self._with(**lists)
        found = self._recommend(known, counts, k, exclude_seen, filters=filters, users=named)
        return found.in_words(self._item_ids)

    def filtered(self, **lists: Any) -> "Recommender":
        """One whose answers always keep to these lists, read once: `items`, ..., see `recommend`.

        Raises:
            InputError: the lists leave nothing to recommend.
        """
        other = copy(self)
        other._filters = self._with(**lists)
        return other

    def similar_items(
        self,
        items_or_item: Any,
        k: int = DEFAULT_K,
        *,
        items: Any = None,
        exclude: Any = None,
    ) -> Recommendations:
        """The k items with the highest cosine to each given item, which is not among them.

        Args:
            items_or_item: item ids, or one.
            k: how many, at least 1.
            items: look among these alone, see `recommend`.
            exclude: leave these out.

        Returns:
            A row for each given item, none of them for one that the model does not know; the score
            is the cosine of the two item vectors, 0 for a vector of zeros.

        Raises:
            TypeError: k is no whole number.
            InputError: an id is neither an integer nor text, or the model has no item vectors.
            ValueError: k is below 1.
        """
        one = isinstance(items_or_item, str | int) or getattr(items_or_item, "ndim", 1) == 0
        asked = [items_or_item] if one else list(items_or_item)
        answers = self.answer_similar(asked, k, items=items, exclude=exclude)
        return answers.in_words(self._item_ids, "similar_to")

    @torch.no_grad()
    def answer_similar(self, asked: Sequence[Any], k: int = DEFAULT_K, **lists: Any) -> Answers:
        """The same as numbers, for a list of items; see `similar_items`."""
        table = self._model.items().detach()
        if table.shape[1] < 2:
            raise InputError("this model has one number an item and no vectors to compare")
        numbers, k = self._index.find(asked), self._checked(k)
        unit = table / table.norm(dim=1, keepdim=True).clamp_min(torch.finfo(table.dtype).tiny)
        filters = self._with(**lists)
        own = OwnLists(exclude=[number[None] for number in numbers])
        best = np.zeros((len(asked), k), np.int64)
        scores = np.zeros((len(asked), k), _dtype(table))
        ranking = _Ranking(unit, k, self._backend, filters, own)
        rows = np.flatnonzero(numbers)
        for first in range(0, len(rows), self._batch_size):
            batch = rows[first : first + self._batch_size]
            h = unit[torch.from_numpy(numbers[batch]).long().to(unit.device)]  # [B, D]
            scores[batch], best[batch] = ranking.of(batch, h, *_no_lists(h))
        return Answers(best, scores, (numbers == 0).astype(np.int64), asked)

    def recommend_log(
        self, log: InteractionLog, k: int = DEFAULT_K, **asked: Any
    ) -> Recommendations:
        """The same for every user of a log, in its order of users; see `answer_log`."""
        return self.answer_log(log, k, **asked).in_words(self._item_ids)

    def answer_log(
        self,
        log: InteractionLog,
        k: int = DEFAULT_K,
        *,
        users: Iterable[Any] | None = None,
        exclude_seen: bool = True,
        after_batch: Callable[[int], None] = lambda _done: None,
        **lists: Any,
    ) -> Answers:
        """What is recommended to every user of a log, in its order of users, as numbers.

        Args:
            log: any interactions; items that the model does not know are passed over.
            k: how many, at least 1.
            users: these alone, by their ids.
            exclude_seen: never recommend an item of the history.
            after_batch: called with the number of histories of each finished batch.
            lists: `items`, `exclude` and the lists by user, see `recommend`.

        Raises:
            ValueError: k is below 1.
        """
        log = log if users is None else pick_users(log, users)
        return self._recommend(
            self._numbers_of(log.item_ids)[log.items],
            log.lengths,
            k,
            exclude_seen,
            filters=self._with(**lists),
            users=log.user_ids.tolist(),
            after_batch=after_batch,
        )

    def _numbers_of(self, item_ids: NDArray[Any]) -> NDArray[np.int32]:
        """The internal item of each item of a log [n + 1], 0 where unknown."""
        last = self._last_numbers  # parts of one log ask again and again
        if last is None or last[0] is not item_ids:
            found = self._index.find(item_ids[1:].tolist())
            last = item_ids, np.concatenate([np.zeros(1, np.int32), found])
            self._last_numbers = last
        return last[1]

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

    def _with(self, **lists: Any) -> Filters | None:
        given = {name: value for name, value in lists.items() if value is not None}
        if not given:
            return self._filters
        return Filters(self._index, len(self._item_ids), given, self._filters)

    def _checked(self, k: Any) -> int:
        """How many items to look for: no more than there are."""
        if not isinstance(k, int | np.integer) or isinstance(k, bool):
            raise TypeError(f"k must be a whole number, got {k!r}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        return min(int(k), len(self.item_ids))

    @torch.no_grad()
    def _recommend(
        self,
        items: NDArray[np.int32],
        counts: NDArray[np.int64],
        k: int,
        exclude_seen: bool,
        *,
        filters: Filters | None,
        users: list[Any] | None,
        after_batch: Callable[[int], None] = lambda _done: None,
    ) -> Answers:
        """Of histories end to end: items [I], 0 where unknown; counts [N]."""
        k = self._checked(k)
        owner = np.repeat(np.arange(len(counts)), counts)  # [I]
        known = np.bincount(owner[items != 0], minlength=len(counts))  # [N]
        own = filters.of(users, len(counts)) if filters else OwnLists()
        ranking = _Ranking(self._model.items().detach(), k, self._backend, filters, own)
        best = np.zeros((len(counts), k), np.int64)
        scores = np.zeros((len(counts), k), _dtype(ranking.table))
        for batch in self._batches(items, counts):
            h = self._represent(batch)  # [B, D]
            seen = batch.seen if exclude_seen else batch.nothing
            scores[batch.rows], best[batch.rows] = ranking.of(batch.rows, h, *seen)
            after_batch(len(batch.rows))
        return Answers(best, scores, counts - known, users)

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


class _Ranking(NamedTuple):
    """How rows are ranked: against which table [V, D], and among which items."""

    table: Tensor
    k: int
    backend: str
    filters: Filters | None
    own: OwnLists

    def of(
        self, rows: NDArray[np.int64], h: Tensor, seen: Tensor, offsets: Tensor
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Scores and items [B, k] of some rows h [B, D] that must not get what they have seen."""
        if self.own.exclude is not None:
            seen, offsets = _joined(seen, offsets, [self.own.exclude[row] for row in rows])
        shared = self.filters.candidates if self.filters else None
        if self.own.items is None:
            return self._top(h, seen, offsets, shared)
        scores = np.empty((len(h), self.k), _dtype(h))
        best = np.empty((len(h), self.k), np.int64)
        # One call for all rows with the same list: regions and age groups are few.
        for places, among in _alike([self.own.items[row] for row in rows]):
            if among is None:
                among = shared
            elif shared is not None:
                among = np.intersect1d(among, shared, assume_unique=True)
            lists = _lists_of(seen, offsets, places)
            of_places = h[torch.from_numpy(places).to(h.device)]
            scores[places], best[places] = self._top(of_places, *lists, among)
        return scores, best

    def _top(
        self, h: Tensor, seen: Tensor, offsets: Tensor, among: Numbers | None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        candidates = None if among is None else torch.from_numpy(among).to(h.device)
        scores, best = top_k(h, self.table, self.k, seen, offsets, candidates, backend=self.backend)
        return scores.cpu().numpy(), best.cpu().numpy()


def _dtype(tensor: Tensor) -> np.dtype[Any]:
    """The same in numpy."""
    return tensor.new_empty(0).cpu().numpy().dtype


def _alike(lists: list[Numbers | None]) -> Iterator[tuple[NDArray[np.int64], Numbers | None]]:
    """The places of equal lists, and the list."""
    places: dict[bytes | None, list[int]] = {}
    for place, items in enumerate(lists):
        places.setdefault(None if items is None else items.tobytes(), []).append(place)
    for same in places.values():
        yield np.array(same, np.int64), lists[same[0]]


def _joined(items: Tensor, offsets: Tensor, more: list[Numbers | None]) -> tuple[Tensor, Tensor]:
    """Lists of items, one a row, with others behind each."""
    flat, ends = items.cpu().numpy(), offsets.cpu().numpy()
    nothing = flat[:0]
    parts = [
        part
        for row, others in enumerate(more)
        for part in (flat[ends[row] : ends[row + 1]], nothing if others is None else others)
    ]
    sizes = np.array([len(part) for part in parts], np.int64).reshape(-1, 2).sum(1)
    joined = torch.from_numpy(np.concatenate([nothing, *parts]))
    new = torch.from_numpy(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))
    return joined.to(items.device), new.to(items.device)


def _lists_of(items: Tensor, offsets: Tensor, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The lists of some rows alone."""
    flat, ends = items.cpu().numpy(), offsets.cpu().numpy()
    some: list[Numbers | None] = [flat[ends[row] : ends[row + 1]] for row in places]
    return _joined(items[:0], offsets.new_zeros(len(places) + 1), some)


def _no_lists(h: Tensor) -> tuple[Tensor, Tensor]:
    """No items for each row."""
    return h.new_empty(0, dtype=torch.int32), h.new_zeros(len(h) + 1, dtype=torch.int64)


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
