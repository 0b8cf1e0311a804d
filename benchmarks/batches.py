"""Training batches of a given size and shape, for benchmarks that need more than one op."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks import inputs
from benchmarks.sweep import Case
from mclrec_fast import MCLRec
from mclrec_fast.config import TrainConfig
from mclrec_fast.models.base import Batch, Pass
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.step import TrainingStep


def official_step(case: Case, longest: int) -> TrainingStep:
    """The updates of the official schedule on a new model of a case's sizes."""
    model = MCLRec(hidden_size=case.width, inner_size=4 * case.width, max_length=max(50, longest))
    model.start(np.arange(case.classes), 1)
    settings = TrainConfig(backend=case.option, batch_size=case.batch, device=case.device)
    return TrainingStep(model.to(case.device).train(), settings)


def sample_table(case: Case, *, batches: int = 4) -> SampleTable:
    """Enough samples for some batches; each user has a history of the case's lengths, and a target.

    Items are drawn uniformly.
    """
    ends = inputs.lengths(case, batches * case.batch).numpy()
    offsets = np.concatenate([[0], np.cumsum(ends + 1)]).astype(np.int64)
    items = np.random.default_rng(0).integers(1, case.classes, int(offsets[-1]), np.int32)
    log = SimpleNamespace(items=items, offsets=offsets)
    samples = SimpleNamespace(
        users=np.arange(len(ends), dtype=np.int32), ends=ends.astype(np.int32)
    )
    return SampleTable(log, samples, max(50, int(ends.max())), torch.device(case.device))


def endless(table: SampleTable, step: TrainingStep, case: Case) -> Iterator[Batch]:
    """Batches without end; the samples repeat, their views do not."""
    number = 0
    while True:
        for index in torch.randperm(len(table), device=table.device).split(case.batch):
            yield step.model.sample(table, index, Pass(1, number, case.option))
            number += 1
