"""Ranking metrics: each is one line here, and everything else knows them by name.

Of one relevant item per sample, whose rank counts from 0 (evaluation.py finds it). Knows nothing of
models and data.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .config_keys import did_you_mean
from .errors import InputError

Ints = NDArray[np.int64]
Gain = Callable[[Ints, int], NDArray[np.floating[Any]]]

RANKED: dict[str, Gain] = {
    "hr": lambda rank, k: np.ones(len(rank)),
    "ndcg": lambda rank, k: 1.0 / np.log2(rank + 2.0),
    "mrr": lambda rank, k: 1.0 / (rank + 1.0),
    "recall": lambda rank, k: np.ones(len(rank)),  # with one relevant item that of the hit rate
    "precision": lambda rank, k: np.full(len(rank), 1.0 / k),  # and the hit rate by k
}
"""What a target of rank below k earns, [M]; the metric is the mean over all samples."""

LISTED: dict[str, Callable[[Ints, NDArray[np.float64]], float]] = {
    "coverage": lambda lists, share: len(np.unique(lists[lists > 0])) / (len(share) - 1),
    "novelty": lambda lists, share: float(np.mean(-np.log2(share[lists[lists > 0]]))),
}
"""Of the k best items of every sample, int [M, k] (0: none), and each item's share [V] of training.

coverage: the part of the catalogue that somebody is shown. novelty: the mean self-information of
what is shown, in bits (Zhou et al., PNAS 2010); an item new to training counts as seen once.
"""

PROTOCOLS = ("unmasked", "masked")


def gains(ranks: Ints, name: str, k: int) -> NDArray[np.floating[Any]]:
    """What every sample earns of the metric `name@k`, [M]; 0 where the target is not in the list.

    Args:
        ranks: int64 [M], from 0.
        name: a name of `RANKED`.
        k: the cut-off.
    """
    return np.where(ranks < k, RANKED[name](ranks, k), 0.0)


def metrics(ranks: Ints, cutoffs: Iterable[int]) -> dict[str, float]:
    """Every ranked metric at every cut-off, `{"hr@5": ...}`, means over the samples.

    Args:
        ranks: int64 [M], from 0.
        cutoffs: the k.
    """
    return {
        f"{name}@{k}": float(np.mean(gains(ranks, name, k))) for name in RANKED for k in cutoffs
    }


def list_metrics(lists: Ints, counts: NDArray[Any], cutoffs: Iterable[int]) -> dict[str, float]:
    """Every metric of the recommended lists at every cut-off.

    Args:
        lists: int64 [M, K], the best items of each sample, 0 where there is no more.
        counts: how often training sees each item, [V].
        cutoffs: the k, at most K.
    """
    share = np.maximum(counts, 1.0) / max(float(counts.sum()), 1.0)
    return {
        f"{name}@{k}": float(of(lists[:, :k], share)) if (lists[:, :k] > 0).any() else 0.0
        for name, of in LISTED.items()
        for k in cutoffs
    }


class Monitor(NamedTuple):
    """Which figure of the validation decides: a metric under a protocol."""

    protocol: str
    metric: str

    @classmethod
    def parse(cls, text: str, cutoffs: Iterable[int]) -> "Monitor":
        """From `metric@k`, of the unmasked ranking, or `protocol.metric@k`.

        Raises:
            InputError: there is no such metric, protocol or cut-off, with the nearest there is.
        """
        protocol, dot, metric = text.rpartition(".")
        known = [f"{name}@{k}" for name in RANKED for k in cutoffs]
        if metric in known and (not dot or protocol in PROTOCOLS):
            return cls(protocol or PROTOCOLS[0], metric)
        if metric.partition("@")[0] in LISTED:
            raise InputError(
                f"monitor {text!r}: {metric} judges a catalogue's use, not an epoch: choose one of "
                f"{', '.join(RANKED)}"
            )
        every = [*known, *(f"{protocol}.{name}" for protocol in PROTOCOLS for name in known)]
        cut = ",".join(map(str, cutoffs))
        raise InputError(
            f"monitor {text!r}: no such metric{did_you_mean(text, every)} "
            f"({', '.join(RANKED)} @ one of the cutoffs {cut}, masked. or unmasked. before it)"
        )

    def value(self, summary: Mapping[str, Any]) -> float:
        """Its figure in what `evaluation.summary` returns."""
        return float(summary[self.protocol][self.metric])

    def __str__(self) -> str:
        """As a reader would write it."""
        return self.metric if self.protocol == PROTOCOLS[0] else f"{self.protocol}.{self.metric}"
