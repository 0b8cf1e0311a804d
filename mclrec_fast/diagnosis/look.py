"""What a model makes of its samples: whether representations and views collapse.

The representations of one fixed draw of samples, of their views where the model contrasts views,
and the items; described by geometry.py. Dropout is off, views are those of one batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..evaluation import evaluating
from ..models.base import Model, Pass
from ..ops.philox import shuffle_order
from ..sampling import SampleTable
from ..shuffling import Shuffled
from . import SAMPLES, geometry

PAIRS = (("h", "target"), ("h1", "h2"), ("z1", "z2"), ("h1", "z1"), ("h2", "z2"))
"""What belongs together: a representation and its target's item; the two views of one history;
a view and what the augmenter makes of it."""


class Diagnosis(NamedTuple):
    """What was found.

    Attributes:
        figures: `samples`; `sets`: what `geometry.describe` says of `h`, `items` and each view by
            name; `alignment` of the pairs by name, as `h1 h2`.
        views: the views themselves, [N, D] by name; none where the model has none.
    """

    figures: dict[str, Any]
    views: dict[str, Tensor]


@torch.no_grad()
def diagnose(
    model: Model,
    table: SampleTable,
    *,
    seed: int,
    backend: str = "auto",
    samples: int = SAMPLES,
) -> Diagnosis:
    """Look at a model's representations of some samples.

    Args:
        model: it is left in the mode it was in.
        table: the samples to draw from.
        seed: of the draw and of the views; the same seed sees the same samples and views.
        backend: who computes.
        samples: how many at most.
    """
    order = Shuffled(len(table), seed=seed, epoch=0).part(0, min(samples, len(table)))
    with evaluating(model):
        at = Pass(seed, 0, backend)
        batch = model.sample(table, order.to(table.device), at)
        count = len(batch.targets)
        h = model.represent(batch.sequences.rows(0, count), at)
        views = {name: x.cpu() for name, x in model.views(batch, at).items()}
        sets = {"h": h.cpu(), **views, "target": model.items()[batch.targets].cpu()}
    described = {name: geometry.describe(sets[name]) for name in ("h", *views)}
    items = model.items()[1:].cpu()
    drawn = shuffle_order(len(items), seed=seed, epoch=0)[:samples]
    described["items"] = geometry.describe(items[drawn])
    pairs = [(a, b) for a, b in PAIRS if a in sets and b in sets]
    alignment = {
        f"{a} {b}": geometry.rounded(geometry.alignment(sets[a], sets[b])) for a, b in pairs
    }
    figures = {"samples": count, "sets": described, "alignment": alignment}
    return Diagnosis(figures, views)
