"""Batches with two stochastic views of each history, as the contrastive models train on."""

from torch import Tensor

from ..ops import augment_views
from ..sampling import SampleTable
from .base import Batch, Pass
from .options import ViewOptions


def sample_views(table: SampleTable, index: Tensor, at: Pass, options: ViewOptions) -> Batch:
    """Some samples' histories, their first views and their second views, packed (3B sequences).

    Args:
        table: the samples.
        index: int64 [B], sample numbers.
        at: the seed, and the number of the batch, which makes its random choices its own.
        options: the ratios of crop, mask and reorder.
    """
    starts, lengths, targets = table.batch(index)
    views = augment_views(
        table.items,
        starts,
        lengths,
        max_length=table.max_length,
        crop_ratio=options.crop_ratio,
        mask_ratio=options.mask_ratio,
        reorder_ratio=options.reorder_ratio,
        seed=at.seed,
        batch=int(at.update),
        backend=at.backend,
    )
    return Batch(views, targets)
