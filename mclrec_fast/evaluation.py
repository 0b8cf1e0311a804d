"""Full ranking: where the target stands among all items, and the metrics made of that.

The rank of a target is the number of items scoring strictly higher plus half the ties, rounded
down. Unmasked is the authors' protocol (the history stays in the ranking), masked removes
everything the user had before. The ranking itself is `ops.target_rank`; nothing here sees a
[users, items] matrix.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .model import Encoder
from .ops import gather_sequences, target_rank
from .sampling import SampleTable

CUTOFFS = (5, 10, 20, 50)
Ints = NDArray[np.int64]
Represent = Callable[[Tensor, Tensor, Tensor], Tensor]


class Ranks(NamedTuple):
    """Where every sample's target stands, from 0.

    Attributes:
        users: int32 [M], rows of the log.
        unmasked, masked: int64 [M], ranks.
        unmasked_ties, masked_ties: int64 [M], other items that score exactly like the target.
    """

    users: NDArray[np.int32]
    unmasked: Ints
    unmasked_ties: Ints
    masked: Ints
    masked_ties: Ints


def metrics(ranks: Ints) -> dict[str, float]:
    """HR@k, NDCG@k and MRR@k of one relevant item per sample, means over the samples.

    HR@k = [rank < k], NDCG@k = [rank < k] / log2(rank + 2), MRR@k = [rank < k] / (rank + 1).
    """
    gains = {
        "hr": np.ones(len(ranks)),
        "ndcg": 1.0 / np.log2(ranks + 2.0),
        "mrr": 1.0 / (ranks + 1.0),
    }
    return {
        f"{name}@{k}": float(np.mean(np.where(ranks < k, gain, 0.0)))
        for name, gain in gains.items()
        for k in CUTOFFS
    }


def summary(ranks: Ranks) -> dict[str, Any]:
    """The metrics of both protocols, and how many targets tied with another item."""
    return {
        "samples": len(ranks.users),
        "unmasked": metrics(ranks.unmasked) | {"tied": int(np.count_nonzero(ranks.unmasked_ties))},
        "masked": metrics(ranks.masked) | {"tied": int(np.count_nonzero(ranks.masked_ties))},
    }


def encoder_representation(
    encoder: Encoder, max_length: int, backend: str = "auto"
) -> tuple[Represent, Tensor]:
    """How an encoder scores: h of histories of at most `max_length` items, and its item table."""

    def represent(items: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        packed = gather_sequences(items, starts, lengths, max_length=max_length, backend=backend)
        h: Tensor = encoder(packed, seed=0, update=0, backend=backend)  # [B, D]
        return h

    return represent, encoder.item_embedding.weight


def popularity_representation(scores: Tensor) -> tuple[Represent, Tensor]:
    """How one score per item, float32 [V], ranks for everybody.

    The same code as any model's: a representation of width 1 that is 1 makes the scores exact.
    """

    def represent(items: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        return torch.ones(len(starts), 1, device=scores.device)  # [B, 1]

    return represent, scores[:, None]


def rank_samples(
    table: SampleTable,
    represent: Represent,
    item_table: Tensor,
    *,
    batch_size: int,
    backend: str = "auto",
    after_batch: Callable[[int], None] = lambda _done: None,
) -> Ranks:
    """Rank every sample's target among all items.

    Args:
        table: the samples.
        represent: takes the log's items, starts and lengths of a batch to h, float [B, D].
        item_table: float [V, D]; the score of item v is ``h . item_table[v]``; row 0 is padding.
        batch_size: samples ranked at a time; the ranks do not depend on it.
        backend: who computes the ranks.
        after_batch: called with the number of samples of each finished batch.

    Raises:
        ValueError: a score is not finite.
    """
    parts: list[list[NDArray[Any]]] = []
    for start in range(0, len(table), batch_size):
        index = torch.arange(start, min(start + batch_size, len(table)), device=table.device)
        starts, lengths, targets = table.batch(index)
        h = represent(table.items, starts, lengths)  # [B, D]
        found = target_rank(h, item_table, targets, *table.seen(index), backend=backend)
        parts.append([tensor.cpu().numpy() for tensor in found])
        after_batch(len(index))
    unmasked, unmasked_ties, masked, masked_ties = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    users = table.users.cpu().numpy()
    return Ranks(users, unmasked, unmasked_ties, masked, masked_ties)


@torch.no_grad()
def rank_with_encoder(
    encoder: Encoder,
    table: SampleTable,
    *,
    batch_size: int,
    backend: str = "auto",
    after_batch: Callable[[int], None] = lambda _done: None,
) -> Ranks:
    """Rank by the encoder's scores, without dropout; leaves the encoder in the mode it was in.

    Raises:
        ValueError: a score is not finite.
    """
    represent, item_table = encoder_representation(encoder, table.max_length, backend)
    training = encoder.training
    encoder.eval()
    try:
        return rank_samples(
            table,
            represent,
            item_table,
            batch_size=batch_size,
            backend=backend,
            after_batch=after_batch,
        )
    finally:
        encoder.train(training)


def popularity(log: Any, train: Any) -> NDArray[np.float32]:
    """How often training sees each item, float32 [V]: the scores of the popularity floor.

    A user's training part ends with the target of the last training sample; users without one do
    not count.
    """
    seen = np.zeros(log.n_users, np.int64)  # [U], items of each user that training sees
    np.maximum.at(seen, train.users, train.ends.astype(np.int64) + 1)
    position = np.arange(len(log.items)) - np.repeat(log.offsets[:-1], np.diff(log.offsets))
    in_training = position < np.repeat(seen, np.diff(log.offsets))  # [I]
    counts = np.bincount(log.items[in_training], minlength=log.n_classes)
    return counts.astype(np.float32)


@torch.no_grad()
def rank_by_scores(
    scores: NDArray[np.float32],
    table: SampleTable,
    *,
    batch_size: int,
    backend: str = "auto",
) -> Ranks:
    """Rank by one score per item, float32 [V], the same for everybody."""
    represent, item_table = popularity_representation(torch.from_numpy(scores).to(table.device))
    return rank_samples(table, represent, item_table, batch_size=batch_size, backend=backend)
