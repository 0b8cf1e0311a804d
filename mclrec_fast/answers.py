"""What a recommender answers: the best items of each history, as lists or as a table.

They come from recommender.py.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import InputError


class Recommendations(NamedTuple):
    """The best items of N histories, or the nearest of N items.

    Attributes:
        items: for each history the ids of its items, int or str, best first: k of them, fewer where
            no more are left, and none where the history holds no item that the model knows.
        scores: the items' scores, in the same form; they compare items of one history only.
        unknown: int64 [N], items of each history that the model does not know and that were passed
            over.
        users: whose histories they are, [N]; None where nobody said.
        label: what the users' column of a table is called.
    """

    items: list[list[Any]]
    scores: list[list[float]]
    unknown: NDArray[np.int64]
    users: Sequence[Any] | None = None
    label: str = "user_id"

    def _columns(self) -> dict[str, Any]:
        """The columns of a table by name; ids as lists."""
        sizes = [len(items) for items in self.items]
        users = range(len(sizes)) if self.users is None else self.users
        return {
            self.label: [
                user for user, size in zip(users, sizes, strict=True) for _ in range(size)
            ],
            "item_id": [item for items in self.items for item in items],
            "score": np.array([score for scores in self.scores for score in scores], np.float64),
            "rank": np.concatenate([np.arange(1, size + 1) for size in [*sizes, 0]]),
        }

    def to_frame(self) -> Any:
        """A pandas DataFrame of `user_id`, `item_id`, `score` and `rank` (from 1), best first.

        Users are numbered from 0 where nobody said who they are. For `similar_items` the first
        column is `similar_to`.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("to_frame needs pandas: pip install pandas") from None
        return pandas.DataFrame(self._columns())

    def to_arrow(self) -> Any:
        """The same as a pyarrow table, which polars and others take as it is.

        Raises:
            InputError: pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError:
            raise InputError(
                'to_arrow needs pyarrow: pip install pyarrow (or "mclrec_fast[parquet]")'
            ) from None
        return pyarrow.table(self._columns())


class Answers(NamedTuple):
    """The same as arrays, internal items; what is computed, before it is put into words.

    Attributes:
        numbers: int64 [N, k], internal items, 0 behind the last one.
        scores: [N, k].
        unknown: int64 [N].
        users: [N] or None.
    """

    numbers: NDArray[np.int64]
    scores: NDArray[Any]
    unknown: NDArray[np.int64]
    users: Sequence[Any] | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Items of each history, [N]."""
        sizes: NDArray[np.int64] = np.count_nonzero(self.numbers, axis=1)
        return sizes

    def in_words(self, item_ids: NDArray[Any], label: str = "user_id") -> Recommendations:
        """With external ids, by `item_ids` [V]."""
        sizes = self.sizes.tolist()
        items, scores = item_ids[self.numbers].tolist(), self.scores.tolist()
        if self.numbers.size and min(sizes) < self.numbers.shape[1]:
            items = [row[:size] for row, size in zip(items, sizes, strict=True)]
            scores = [row[:size] for row, size in zip(scores, sizes, strict=True)]
        return Recommendations(items, scores, self.unknown, self.users, label)
