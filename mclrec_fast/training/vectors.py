"""Item vectors from outside as rows of a model's item table, before it is trained.

Items that have no vector keep the row that they have: a new one's as usual.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..config import TrainConfig
from ..data.ids import IdIndex
from ..data.vectors import Vectors, read_vectors, vectors_of
from ..errors import InputError
from ..models.base import Model
from ..models.freezing import item_table


class Filled(NamedTuple):
    """What was made of vectors: items that took one, that have none, and the other vectors."""

    found: int
    missing: int
    extra: int
    trained: int

    def render(self, vectors: Vectors) -> str:
        """A line in the form of the data card's, and notes."""
        width = vectors.table.shape[1]
        texts = [("vectors", f"{self.found} items from {vectors.source}, {width} wide")]
        if self.missing:
            texts.append(("note", f"{self.missing} items have none: they begin as usual"))
        if self.extra:
            texts.append(("note", f"{self.extra} vectors are of other items: passed over"))
        if self.trained:
            texts.append(
                ("note", f"{self.trained} items are trained already: they keep their rows")
            )
        return "\n".join(f"{label:<13}{text}" for label, text in texts)


def vectors_in(train: TrainConfig) -> Vectors | None:
    """The vectors that the settings name; None where they name none.

    Raises:
        InputError: see `read_vectors`; ids without vectors.
    """
    if train.item_embeddings is None:
        return None
    return read_vectors(train.item_embeddings, train.item_ids)


def split_given(training: dict[str, Any]) -> Vectors | None:
    """Takes vectors that lie in memory out of the settings of `fit`; None where there are none."""
    given = training.get("item_embeddings")
    if given is None or isinstance(given, str):
        return None
    if hasattr(given, "__fspath__"):
        training["item_embeddings"] = given.__fspath__()
        return None
    return vectors_of(training.pop("item_embeddings"))


def require_fit(
    model: Model, vectors: Vectors, item_ids: NDArray[Any]
) -> tuple[nn.Parameter, NDArray[np.int32]]:
    """The model's item table and the row of each vector in it, 0 for an unknown item, [N].

    Args:
        model: it has weights.
        vectors: by item id.
        item_ids: the external ids of the rows, entry 0 unused.

    Raises:
        InputError: the model has no item table, or one of another width; no vector is of one of
            these items.
    """
    table = item_table(model)
    if table is None:
        raise InputError(f"item_embeddings: {type(model).__name__} has no item table to fill")
    width = vectors.table.shape[1]
    if table.shape[1] != width:
        raise InputError(
            f"{vectors.source}: its vectors are {width} wide, the model's {table.shape[1]}: make "
            f"the model as wide (--set hidden_size={width}, hidden_size={width}), or the vectors"
        )
    rows = IdIndex(item_ids, first=1, missing=0).find(vectors.ids)
    if not rows.any():
        raise InputError(
            f"{vectors.source}: none of its {len(rows)} items ({_some(vectors.ids)}) is one of the "
            f"{len(item_ids) - 1} that the model knows ({_some(item_ids[1:].tolist())}): are the "
            "ids written alike?"
        )
    return table, rows


def fill(model: Model, vectors: Vectors, first: int = 1) -> Filled:
    """Put vectors into the rows of a model's item table.

    Args:
        model: it has weights.
        vectors: by the ids that the model knows.
        first: the first row that may change; earlier ones are trained already.

    Raises:
        InputError: see `require_fit`; nothing is changed then.
    """
    assert model.item_ids is not None
    table, rows = require_fit(model, vectors, model.item_ids)
    wanted = np.flatnonzero(rows >= first)
    at = torch.from_numpy(rows[wanted].astype(np.int64)).to(table.device)
    with torch.no_grad():
        table[at] = torch.from_numpy(vectors.table[wanted]).to(table)
    some = len(model.item_ids) - first
    trained = int(np.count_nonzero((rows > 0) & (rows < first)))
    return Filled(len(wanted), some - len(wanted), int(np.count_nonzero(rows == 0)), trained)


def _some(ids: list[Any]) -> str:
    return ", ".join(repr(value)[:40] for value in ids[:3]) + ", ..."
