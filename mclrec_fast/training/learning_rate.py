"""How the step size goes on over a training: constant or a cosine, after a linear warm-up.

A function of the batch's number alone, so that a resumed run goes on as if it had never stopped.
Source of the cosine: Loshchilov & Hutter, ICLR 2017, without restarts.
"""

import math

from ..config import TrainConfig


def changes(train: TrainConfig) -> bool:
    """Whether the step size is not the same for every batch."""
    return train.learning_rate_schedule != "constant" or train.warmup_steps > 0


def learning_rate(train: TrainConfig, step: int, steps: int) -> float:
    """The step size of one batch.

    Args:
        train: `learning_rate` is its largest value.
        step: number of the batch, from 0.
        steps: batches of the whole training, when all its epochs are done.
    """
    warm = train.warmup_steps
    if step < warm:
        return train.learning_rate * (step + 1) / warm
    if train.learning_rate_schedule == "constant":
        return train.learning_rate
    done = min(1.0, (step - warm) / max(1, steps - warm))
    return train.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
