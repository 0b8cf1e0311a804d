"""How the runs of a table are looked at: all test users, some, under noise, or those who validate.

A look takes a finished run and gives ranks by place on the table's axis. Metrics are made of them
in figures.py.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..comparison import read_ranks
from ..data import Dataset, InteractionLog, Samples
from ..errors import InputError
from ..metrics import PROTOCOLS, Ints
from .plan import Planned

NOISES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
_NOISE_SEED = 0
_TRIES = 50  # draws of an item that the user never had; one who had nearly all may get one again
_GROUPS = 5


class View(NamedTuple):
    """Ranks at a place on the axis: int64 [m] by protocol."""

    x: str
    ranks: Mapping[str, Ints]


Look = Callable[[Planned, Path, Dataset], list[View]]


def whole(run: Planned, out: Path, dataset: Dataset) -> list[View]:
    """All test users, as the run ranked them."""
    return [_kept(run, out, dataset.split.test, "test", dataset.log.source)]


def validation(run: Planned, out: Path, dataset: Dataset) -> list[View]:
    """All users who validate, as the run ranked them at its best epoch."""
    return [_kept(run, out, dataset.split.valid, "valid", dataset.log.source)]


def _kept(run: Planned, out: Path, held_out: Samples | None, split: str, source: str) -> View:
    kept = read_ranks(run.path(out), split)
    if held_out is None or not np.array_equal(kept.users, held_out.users):
        raise InputError(f"{run.path(out)}: ranked other {split} users than {source} holds out")
    return View(run.row.x, {protocol: kept.of(protocol) for protocol in PROTOCOLS})


def by_length(run: Planned, out: Path, dataset: Dataset) -> list[View]:
    """Test users in five groups of about one size, by the items they had before the target."""
    (view,) = whole(run, out, dataset)
    assert dataset.split.test is not None
    return [
        View(label, {protocol: ranks[mask] for protocol, ranks in view.ranks.items()})
        for label, mask in length_groups(dataset.split.test.ends)
    ]


def length_groups(lengths: NDArray[np.int32]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Groups by the quantiles of lengths [M], equal ones together: a label and a mask [M] each."""
    shares = np.arange(1, _GROUPS + 1) / _GROUPS
    edges = np.unique(np.quantile(lengths, shares, method="inverted_cdf"))
    groups, before = [], 0
    for edge in edges:
        mask = (lengths > before) & (lengths <= edge)
        low, high, before = int(lengths[mask].min()), int(lengths[mask].max()), edge
        span = f"{low}" if low == high else f"{low}-{high}"
        groups.append((f"{span} ({np.count_nonzero(mask)})", mask))
    return groups


def under_noise(run: Planned, out: Path, dataset: Dataset) -> list[View]:
    """All test users, ranked again with more and more random items in their histories."""
    from ..evaluation import rank_samples
    from ..runs.loading import load_run
    from ..sampling import SampleTable
    from ..training.machine import machine_for

    train = run.resolved.config.train
    model = load_run(run.path(out)).model
    assert dataset.split.test is not None
    views = []
    with machine_for(train) as device:
        model.to(device)
        for share in NOISES:
            log, samples = with_noise(dataset.log, dataset.split.test, share, _NOISE_SEED)
            table = SampleTable(log, samples, model.options.max_length, device)
            ranks = rank_samples(
                model, table, batch_size=train.eval_batch_size, backend=train.backend
            )
            found = {"unmasked": ranks.unmasked, "masked": ranks.masked}
            views.append(View(f"{share:.0%}", found))
    return views


def with_noise(
    log: InteractionLog, samples: Samples, share: float, seed: int
) -> tuple[InteractionLog, Samples]:
    """Histories with random items behind some of theirs, and the same targets.

    Args:
        log: whose histories.
        samples: which of them, M.
        share: the probability that an item is followed by a random one, which the user never had.
        seed: of the draws; a larger share adds to what a smaller one inserted.

    Returns:
        A log of M users with what each sample sees and its target, and the samples of it.
    """
    sizes = samples.ends.astype(np.int64) + 1  # [M], history and target
    owner = np.repeat(np.arange(len(sizes)), sizes)  # [I]
    ends = np.cumsum(sizes)
    inside = np.arange(len(owner)) - np.repeat(ends - sizes, sizes)  # [I]
    items = log.items[log.offsets[samples.users][owner] + inside]  # [I]
    rng = np.random.default_rng(seed)
    chance = rng.random(len(items))
    chance[ends - 1] = 1.0  # nothing behind a target
    strange = rng.integers(1, log.n_classes, len(items))
    had, again = owner * log.n_classes + items, np.arange(len(items))
    for _ in range(_TRIES):
        again = again[np.isin(owner[again] * log.n_classes + strange[again], had)]
        if not len(again):
            break
        strange[again] = rng.integers(1, log.n_classes, len(again))
    counts = 1 + (chance < share)  # [I]
    noisy = np.repeat(items, counts)
    last = np.cumsum(counts) - 1  # [I], where each item's last copy stands
    noisy[last[counts == 2]] = strange[counts == 2]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, counts, len(sizes)).astype(int))])
    users = np.arange(len(sizes), dtype=np.int32)
    noisy_log = InteractionLog(
        noisy, offsets, None, log.user_ids[samples.users], log.item_ids, log.sha256, log.source
    )
    return noisy_log, Samples(users, (np.diff(offsets) - 1).astype(np.int32))


LOOKS: dict[str, Look] = {
    "whole": whole,
    "by_length": by_length,
    "under_noise": under_noise,
    "validation": validation,
}
