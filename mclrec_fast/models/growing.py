"""A model for a larger catalogue: rows behind its old ones, which stay as they are.

A new row is the mean of the old ones plus normal noise of the model's initial deviation. So a new
item scores as an average one does until it is trained; a row of the initial noise alone would score
near zero, whatever zero means to a trained model. The noise is addressed by seed and row: it does
not depend on how many items come at once. What the items are is data/grown.py's.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..ops.philox import normal_rows
from .base import Model
from .memory import weights_without_memory

_USUAL_DEVIATION = 0.02


def grow(model: Model, item_ids: NDArray[Any], seed: int) -> None:
    """Make room for the items behind those that a model knows.

    Every weight with a row for each item gets rows for the new ones; all else stays.

    Args:
        model: it has weights.
        item_ids: external item ids [V], entry 0 for padding; they begin with the model's.
        seed: of the new rows.
    """
    model.require_weights()
    assert model.item_ids is not None
    before = len(model.item_ids)
    if len(item_ids) > before:
        deviation = getattr(model.options, "init_std", _USUAL_DEVIATION)
        for name, shape in _shapes(model, len(item_ids)).items():
            owner, _, attribute = name.rpartition(".")
            module = model.get_submodule(owner)
            old = getattr(module, attribute)
            if old.shape == shape:
                continue
            if isinstance(old, nn.Parameter):
                rows = new_rows(old.detach(), shape[0] - before, deviation, seed)
                wider = nn.Parameter(torch.cat((old.detach(), rows)), old.requires_grad)
                setattr(module, attribute, wider)
            else:  # a buffer is learned anew
                setattr(module, attribute, torch.cat((old, old.new_zeros(shape[0] - before))))
            if isinstance(module, nn.Embedding):
                module.num_embeddings = shape[0]
    model.item_ids = item_ids
    model._recommender = None


def _shapes(model: Model, n_classes: int) -> dict[str, torch.Size]:
    """The shapes of a model's weights and buffers if it had so many item classes."""
    weights = weights_without_memory(type(model)(model.options), n_classes)
    own = model.state_dict()
    return {name: tensor.shape for name, tensor in weights.items() if name in own}


def new_rows(old: Tensor, count: int, deviation: float, seed: int) -> Tensor:
    """Rows behind those of a table [V, ...], padding's row 0 not counted in their mean."""
    table = old.flatten(1).cpu().double().numpy()
    mean = torch.from_numpy(table[1:].mean(axis=0))  # numpy's order of adding knows no threads
    noise = normal_rows(len(old), count, len(mean), seed=seed)
    rows = (mean + deviation * noise).to(old.dtype).reshape(count, *old.shape[1:])
    return rows.to(old.device)
