"""A generated log of Beauty's shape, for machines without a network and for tests.

Lengths (min 5, median 6, p90 14, p99 43) and a power law over items are those of Amazon Beauty.
The structure that a learner can find and popularity cannot: every item has a few favourite
successors, and most users move along them. Not real data, and no measure of a real task.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .log import InteractionLog, content_digest

_SUCCESSORS = 4
_FOLLOW = 0.6  # probability that the next item is one of the current item's successors
_TIES = np.cumsum([0.45, 0.27, 0.17])  # how often the first, second, third successor; else last
_EXPONENT, _SHIFT = 0.8, 25.0  # item popularity: (rank + shift) ** -exponent
_TRIES = 4  # redraws that avoid an item the user already has
# Quantile function of the length: linear in the logarithm between these points.
_SHARE = np.array([0.0, 0.32, 0.53, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0])
_LENGTH = np.array([5.0, 6.0, 7.0, 8.7, 10.7, 14.9, 21.7, 43.9, 99.0, 205.0])
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class SyntheticConfig:
    """Size and seed of the generated log.

    Attributes:
        users: number of users, 1 or more.
        items: number of items, 8 or more.
        seed: another seed is another catalogue and another log.
    """

    users: int = 22_000
    items: int = 12_000
    seed: int = 0


def _lengths(rng: np.random.Generator, config: SyntheticConfig) -> NDArray[np.int64]:
    """Sequence lengths, int64 [U]; their quantiles do not depend on the seed."""
    share = (rng.permutation(config.users) + 0.5) / config.users
    lengths = np.exp(np.interp(share, _SHARE, np.log(_LENGTH))).astype(np.int64)
    capped: NDArray[np.int64] = np.minimum(lengths, max(5, config.items // 2))
    return capped


class _Catalogue:
    """Popularity and successors of the items 0..n-1; item numbers say nothing about either."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        weight = (np.arange(n) + _SHIFT) ** -_EXPONENT
        self.order = rng.permutation(n)  # [n] by popularity
        self.cumulative = np.cumsum(weight) / weight.sum()
        # Successors are drawn near the item in popularity, so that following keeps the power law.
        place = np.empty(n, dtype=np.int64)
        place[self.order] = np.arange(n)
        spread = np.maximum(place[:, None] * 0.5, 20.0)
        step = (rng.random((n, _SUCCESSORS)) - 0.5) * 2 * spread
        near = np.abs(place[:, None] + np.floor(step)).astype(np.int64) % n
        near = np.where(near == place[:, None], (near + 1) % n, near)
        self.successors = self.order[near]  # [n, successors]

    def popular(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Items drawn by popularity, int64 [count]."""
        at = np.searchsorted(self.cumulative, rng.random(count), side="right")
        drawn: NDArray[np.int64] = self.order[np.minimum(at, len(self.order) - 1)]
        return drawn

    def following(self, rng: np.random.Generator, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """A next item for each item, int64 [count]."""
        which = np.searchsorted(_TIES, rng.random(len(items)), side="right")
        follow = rng.random(len(items)) < _FOLLOW
        following: NDArray[np.int64] = self.successors[items, which]
        return np.where(follow, following, self.popular(rng, len(items)))


def _openers(rng: np.random.Generator, catalogue: _Catalogue, users: int) -> NDArray[np.int64]:
    """First items, int64 [users]; each item opens a sequence when there are users enough."""
    n = len(catalogue.order)
    first = catalogue.popular(rng, users)
    places = rng.permutation(users)[: min(n, users)]
    first[places] = rng.permutation(n)[: len(places)]
    return first


def _walk(rng: np.random.Generator, config: SyntheticConfig) -> tuple[NDArray[np.int64], ...]:
    """All sequences: items int64 [I] (0..n-1), offsets int64 [U + 1]."""
    lengths = _lengths(rng, config)
    catalogue = _Catalogue(rng, config.items)
    longest = int(lengths.max())
    by_length = np.argsort(-lengths, kind="stable")
    active = np.searchsorted(-lengths[by_length], -np.arange(longest), side="left")
    walks = np.full((config.users, longest), -1, dtype=np.int32)
    walks[:, 0] = _openers(rng, catalogue, config.users)
    for step in range(1, longest):
        count = int(active[step])  # users with more than `step` items
        past = walks[:count, :step]
        current = past[:, -1].astype(np.int64)
        drawn = catalogue.following(rng, current)
        for _ in range(_TRIES):
            again = np.flatnonzero((past == drawn[:, None]).any(axis=1))
            if not len(again):
                break
            drawn[again] = catalogue.following(rng, current[again])
        walks[:count, step] = drawn
    rows = np.empty_like(by_length)
    rows[by_length] = np.arange(config.users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    inside = np.arange(longest) < lengths[:, None]
    return walks[rows][inside].astype(np.int64), offsets


def _times(rng: np.random.Generator, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seconds, ascending inside a user: a start within a year, then gaps of about a week."""
    total, users = int(offsets[-1]), len(offsets) - 1
    gaps = np.floor(-np.log1p(-rng.random(total)) * 7 * 24 * 3600).astype(np.int64)
    gaps[offsets[:-1]] = np.floor(rng.random(users) * _YEAR).astype(np.int64)
    running = np.cumsum(gaps)
    before = (running - gaps)[offsets[:-1]]
    times: NDArray[np.int64] = running - np.repeat(before, np.diff(offsets)) + 1_600_000_000
    return times


def generate(config: SyntheticConfig) -> InteractionLog:
    """Generate the log of a configuration, the same for the same configuration.

    Raises:
        InputError: a size is out of range.
    """
    for name, value, low in (("users", config.users, 1), ("items", config.items, 8)):
        if value < low or value > 50_000_000:
            raise InputError(f"synthetic_{name} is {value}, expected {low} to 50000000")
    if config.seed < 0:
        raise InputError(f"synthetic_seed is {config.seed}, expected 0 or more")
    rng = np.random.default_rng(config.seed)
    raw, offsets = _walk(rng, config)
    times = _times(rng, offsets)
    seen, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    rank = np.empty(len(seen), dtype=np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(1, len(seen) + 1, dtype=np.int32)
    log = InteractionLog(
        items=rank[inverse],
        offsets=offsets.astype(np.int64),
        times=times,
        user_ids=np.arange(1, config.users + 1, dtype=np.int64),
        item_ids=np.arange(len(seen) + 1, dtype=np.int64),
        source=f"synthetic (users {config.users}, items {config.items}, seed {config.seed})",
    )
    return replace(log, sha256=content_digest(log))
