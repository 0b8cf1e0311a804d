"""A small training run, batch by batch, for any device and backend; float64 weights."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from mclrec_fast.config import Config, ContrastConfig, ModelConfig, TrainConfig
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.experiment import new_model
from mclrec_fast.training.loop import sample_batch
from mclrec_fast.training.schedules import TrainingStep

CLASSES, USERS, BATCH, LONGEST = 41, 60, 12, 11


@dataclass
class Run:
    """A model in training and where it stands."""

    config: Config
    table: SampleTable
    step: TrainingStep
    batches: int = 0


def make_run(
    backend: str,
    device: str = "cpu",
    *,
    schedule: str = "official",
    model: str = "mclrec",
    dtype: torch.dtype = torch.float64,
) -> Run:
    """The same initial weights and the same log for every backend and device."""
    contrast = {"mclrec": (0.1, 0.2), "cl4srec": (0.1, 0.0), "sasrec": (0.0, 0.0)}[model]
    config = Config(
        model=ModelConfig(
            model=model, hidden_size=16, inner_size=24, max_length=LONGEST, init_std=0.1
        ),
        contrast=ContrastConfig(lambda_=contrast[0], beta=contrast[1]),
        train=TrainConfig(schedule=schedule, backend=backend, batch_size=BATCH, device=device),
    )
    place = torch.device(device)
    step = TrainingStep(new_model(CLASSES, config, place).to(dtype).train(), config)
    return Run(config, sample_table(place), step)


def sample_table(device: torch.device) -> SampleTable:
    """Users with 1 to 20 items and a target."""
    random = np.random.default_rng(0)
    ends = random.integers(1, 21, USERS)
    offsets = np.concatenate([[0], np.cumsum(ends + 1)])
    items = random.integers(1, CLASSES, int(offsets[-1]))
    log = SimpleNamespace(items=items.astype(np.int32), offsets=offsets.astype(np.int64))
    samples = SimpleNamespace(users=np.arange(USERS, dtype=np.int32), ends=ends.astype(np.int32))
    return SampleTable(log, samples, LONGEST, device)


def run_batches(run: Run, count: int) -> dict[str, Tensor]:
    """Trains on `count` more batches; their losses by name, [count] on the run's device."""
    found = []
    for _ in range(count):
        first = run.batches * BATCH % USERS
        index = torch.arange(first, first + BATCH, device=run.table.device)
        views, targets = sample_batch(
            run.table, index, run.config, run.batches, views=run.step.uses_views
        )
        update = run.batches * run.step.updates_per_batch
        found.append(run.step(views, targets, update=update))
        run.batches += 1
    return {name: torch.stack([losses[name] for losses in found]) for name in found[0]}


def assert_same_trajectory(
    found: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-9
) -> None:
    """Every loss of every batch agrees, relative to the largest loss of its name (at least 1)."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        difference = (found[name].cpu().double() - wanted.double()).abs().max()
        assert float(difference) <= relative * max(1.0, float(wanted.abs().max())), name
