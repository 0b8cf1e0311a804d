"""Recommendations of a trained run for any history, in the item ids of the data it was trained on.

A history is a list of item ids, oldest first; the run need not have met whoever it belongs to.
Needs the run's directory and nothing else. Every item of the catalogue is scored (`ops.top_k`):
nothing here is approximate.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _native
from .config import DEFAULT_K
from .data import IdIndex, InteractionLog, load_ids
from .errors import InputError
from .evaluation import Represent, encoder_representation, popularity_representation
from .ops import top_k
from .training.trained import Trained, load_trained


class Recommendations(NamedTuple):
    """The best items of N histories.

    Attributes:
        items: for each history the ids of its items, int or str, best first: k of them, fewer where
            the catalogue has no more, and none where the history holds no item that the run knows.
        scores: the items' scores, in the same form; they compare items of one history only.
        unknown: int64 [N], items of each history that the run does not know and that were passed
            over.
    """

    items: list[list[Any]]
    scores: list[list[float]]
    unknown: NDArray[np.int64]


class Recommender:
    """A trained model with the item ids of its data; see `load`."""

    def __init__(
        self,
        represent: Represent,
        item_table: Tensor,
        item_ids: NDArray[Any],
        *,
        max_length: int,
        batch_size: int,
        backend: str = "auto",
        for_everybody: bool = False,
    ) -> None:
        """Put a recommender together.

        Args:
            represent: from items and slices of them to h, float [B, D].
            item_table: float [V, D]; the score of item v is ``h . item_table[v]``; row 0 is
                padding.
            item_ids: external item ids [V], entry 0 unused.
            max_length: items of a history that `represent` takes, its last ones.
            batch_size: histories at a time; the answers do not depend on it.
            backend: who ranks.
            for_everybody: a history may be empty, `represent` does not look at it.
        """
        self._represent, self._item_table = represent, item_table
        self._item_ids, self._index = item_ids, IdIndex(item_ids, first=1, missing=0)
        self._max_length, self._batch_size = max_length, batch_size
        self._backend, self._for_everybody = backend, for_everybody

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], *, device: str = "cpu", backend: str = "auto"
    ) -> "Recommender":
        """Load the best weights of a run.

        Args:
            run: its directory.
            device: "cpu" or "cuda".
            backend: "auto", "torch" or "native".

        Raises:
            InputError: there is no run or it has no weights yet, its files do not fit each other,
                or the device or backend is not available.
        """
        path = Path(run)
        return cls.from_trained(load_trained(path, "run"), path, device=device, backend=backend)

    @classmethod
    def from_trained(
        cls, trained: Trained, path: Path, *, device: str = "cpu", backend: str = "auto"
    ) -> "Recommender":
        """The same for a run at `path` whose weights are loaded already."""
        place = torch.device(device)
        if place.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device {device!r}: torch finds no CUDA device here; use 'cpu'")
        _native.backend(backend, place)
        item_ids = load_ids(path).item_ids
        if len(item_ids) != trained.n_classes:
            raise InputError(
                f"{path}: its weights know {trained.n_classes - 1} items, its item ids are "
                f"{len(item_ids) - 1}: were the run's files changed?"
            )
        length, popular = trained.config.model.max_length, trained.is_popularity
        if popular:
            represent, item_table = popularity_representation(trained.popularity().to(place))
        else:
            encoder = trained.encoder(str(path)).to(place)
            represent, item_table = encoder_representation(encoder, length, backend)
        return cls(
            represent,
            item_table,
            item_ids,
            max_length=length,
            batch_size=trained.config.train.eval_batch_size,
            backend=backend,
            for_everybody=popular,
        )

    @property
    def item_ids(self) -> NDArray[Any]:
        """The catalogue: external ids of all items that can be recommended."""
        return self._item_ids[1:]

    def recommend(
        self, histories: Iterable[Iterable[Any]], k: int = DEFAULT_K, *, exclude_seen: bool = True
    ) -> Recommendations:
        """The k best next items of each history.

        Args:
            histories: lists of external item ids, oldest first; 7 and "7" are one id. The model
                looks at the last L items it knows.
            k: how many, at least 1.
            exclude_seen: never recommend an item of the history, the older ones included.

        Raises:
            TypeError: a history is a text or a number instead of a list of items.
            ValueError: k is below 1.
        """
        lists = [_as_list(number, history) for number, history in enumerate(histories)]
        counts = np.array([len(history) for history in lists], dtype=np.int64)
        items = self._index.find(item for history in lists for item in history)  # [I], 0 = unknown
        return self._recommend(items, counts, k, exclude_seen)

    def recommend_log(
        self, log: InteractionLog, k: int = DEFAULT_K, *, exclude_seen: bool = True
    ) -> Recommendations:
        """The same for every user of a log, in its order of users.

        Args:
            log: any interactions; items that the run does not know are passed over.
            k: how many, at least 1.
            exclude_seen: never recommend an item of the history.

        Raises:
            ValueError: k is below 1.
        """
        ours = np.concatenate([np.zeros(1, np.int32), self._index.find(log.item_ids[1:].tolist())])
        return self._recommend(ours[log.items], log.lengths, k, exclude_seen)

    @torch.no_grad()
    def _recommend(
        self, items: NDArray[np.int32], counts: NDArray[np.int64], k: int, exclude_seen: bool
    ) -> Recommendations:
        """Of histories end to end: items [I], 0 where unknown; counts [N]."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        owner = np.repeat(np.arange(len(counts)), counts)  # [I]
        known = np.bincount(owner[items != 0], minlength=len(counts))  # [N]
        rows = np.arange(len(counts)) if self._for_everybody else np.flatnonzero(known)
        device = self._item_table.device
        seen = torch.from_numpy(items[items != 0]).to(device)  # [K], what is left of all histories
        ends = torch.from_numpy(np.cumsum(known[rows])).to(device)  # [R], where each one's end
        answer = Recommendations([[] for _ in counts], [[] for _ in counts], counts - known)
        for first in range(0, len(rows), self._batch_size):
            batch = rows[first : first + self._batch_size]
            stops = ends[first : first + self._batch_size]
            sizes = torch.from_numpy(known[batch]).to(device)
            found = self._best(seen, stops, sizes, min(k, len(self.item_ids)), exclude_seen)
            for row, scores, best in zip(batch, *found, strict=True):
                left = best != 0  # where the catalogue had no more
                answer.items[row] = self._item_ids[best[left]].tolist()
                answer.scores[row] = scores[left].tolist()
        return answer

    def _best(
        self, seen: Tensor, stops: Tensor, sizes: Tensor, k: int, exclude_seen: bool
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Scores and items [B, k] of the histories that are seen[stops - sizes .. stops)."""
        lengths = sizes.clamp_max(self._max_length)
        h = self._represent(seen, stops - lengths, lengths.to(torch.int32))  # [B, D]
        begins = stops - sizes
        if exclude_seen:
            excluded = seen[int(begins[0]) : int(stops[-1])]
            offsets = torch.cat((begins, stops[-1:])) - begins[0]
        else:
            excluded, offsets = seen[:0], torch.zeros_like(torch.cat((begins, stops[-1:])))
        scores, items = top_k(h, self._item_table, k, excluded, offsets, backend=self._backend)
        return scores.cpu().numpy(), items.cpu().numpy()


def _as_list(number: int, history: Any) -> list[Any]:
    if isinstance(history, str | bytes) or not isinstance(history, Iterable):
        raise TypeError(
            f"histories[{number}] is {history!r}: a history is a list of item ids, so one history "
            "alone is recommend([[...]])"
        )
    return list(history)
