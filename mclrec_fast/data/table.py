"""What a reader hands over: one row per interaction, ids already coded, in file order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Table:
    """Interactions in file order (R rows).

    Attributes:
        users: int32 [R], codes into `user_ids`, numbered by first appearance.
        items: int32 [R], codes into `item_ids`, numbered by first appearance.
        user_ids: external user ids, int64 when every id is a canonical integer, else str objects.
        item_ids: external item ids, likewise.
        times: int64 or float64 [R] (float64 as soon as one time is not an integer), or None.
        ratings: float64 [R], or None.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    user_ids: NDArray[Any]
    item_ids: NDArray[Any]
    times: NDArray[np.int64] | NDArray[np.float64] | None = None
    ratings: NDArray[np.float64] | None = None

    def clear(self) -> None:
        """Let go of the rows; the ids stay."""
        self.users = self.items = np.empty(0, dtype=np.int32)
        self.times = self.ratings = None
