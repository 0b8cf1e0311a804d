"""Logs to measure on: generated to a real data set's shape, so that timings need no download."""

import numpy as np
from numpy.typing import NDArray

from mclrec_fast.data import InteractionLog

# Amazon Beauty, 5-core: the share of users with at most so many interactions.
_BEAUTY_LENGTHS = (
    (0.0, 4), (0.3203, 5), (0.509, 6), (0.6289, 7), (0.7098, 8), (0.7709, 9), (0.8103, 10),
    (0.8414, 11), (0.8663, 12), (0.886, 13), (0.9021, 14), (0.9231, 16), (0.9389, 18), (0.9492, 20),
    (0.9582, 22), (0.9677, 25), (0.9785, 30), (0.9842, 35), (0.9888, 40), (0.9932, 50),
    (0.9959, 60), (0.9981, 80), (0.9996, 120), (1.0, 204),
)  # fmt: skip
# How often the item of a popularity rank occurs, from the first to the last.
_BEAUTY_COUNTS = (
    (1, 431), (11, 282), (101, 118), (1001, 39), (3001, 16), (6001, 9), (9001, 6), (12101, 5),
)  # fmt: skip
BEAUTY_USERS, BEAUTY_ITEMS = 22_363, 12_101


def beauty_lengths(users: int = BEAUTY_USERS) -> NDArray[np.int64]:
    """Interactions of each user, int64 [users]; the same distribution for any number of users."""
    share, length = np.array(_BEAUTY_LENGTHS).T
    rank = (np.arange(users) + 0.5) / users
    # A length holds the users between its own share and the one of the length below it.
    exact: NDArray[np.float64] = np.exp(np.interp(rank, share, np.log(length)))
    return np.ceil(exact - 1e-9).astype(np.int64)


def beauty_log(seed: int = 0) -> InteractionLog:
    """A log of Beauty's size: histories of mean 8.4 (cut at 50), 12 101 items, power-law use."""
    rng = np.random.default_rng(seed)
    lengths = rng.permutation(beauty_lengths())
    rank, count = np.log(np.array(_BEAUTY_COUNTS, float)).T
    weight = np.exp(np.interp(np.log(np.arange(1, BEAUTY_ITEMS + 1)), rank, count))
    cumulative = np.cumsum(weight) / weight.sum()
    names = rng.permutation(BEAUTY_ITEMS) + 1
    items = names[np.searchsorted(cumulative, rng.random(int(lengths.sum())))]
    return InteractionLog(
        items=items.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=None,
        user_ids=np.arange(BEAUTY_USERS),
        item_ids=np.arange(BEAUTY_ITEMS + 1),
        source="generated to the shape of Amazon Beauty",
    )
