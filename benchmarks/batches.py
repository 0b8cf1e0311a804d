"""Training batches of a given size and shape, for benchmarks that need more than one op."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from benchmarks import inputs
from benchmarks.sweep import Case
from mclrec_fast.config import Config, ModelConfig, TrainConfig
from mclrec_fast.ops import PackedSequences
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.loop import sample_batch


def config_of(case: Case, longest: int, schedule: str) -> Config:
    """The default configuration with the sizes of a case."""
    model = ModelConfig(
        hidden_size=case.width, inner_size=4 * case.width, max_length=max(50, longest)
    )
    train = replace(
        TrainConfig(),
        backend=case.option,
        schedule=schedule,
        batch_size=case.batch,
        seed=1,
        device=case.device,
    )
    return Config(model=model, train=train)


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


def endless(table: SampleTable, config: Config) -> Iterator[tuple[PackedSequences, Tensor]]:
    """Batches without end; the samples repeat, their views do not."""
    size, number = config.train.batch_size, 0
    while True:
        for index in torch.randperm(len(table), device=table.device).split(size):
            yield sample_batch(table, index, config, number, views=True)
            number += 1
