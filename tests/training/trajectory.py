"""A small training run, batch by batch, for any device and backend; float64 weights."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from mclrec_fast.config import Config, ContrastConfig, ModelConfig, TrainConfig
from mclrec_fast.ops import PackedSequences
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.experiment import new_model
from mclrec_fast.training.graphs import GraphedStep
from mclrec_fast.training.loop import sample_batch
from mclrec_fast.training.schedules import TrainingStep


@dataclass(frozen=True)
class Sizes:
    """How large the model, the log and a batch are."""

    classes: int
    users: int
    batch: int
    longest: int
    hidden: int
    inner: int


SMALL = Sizes(classes=41, users=60, batch=12, longest=11, hidden=16, inner=24)
OFFICIAL = Sizes(classes=12_102, users=1024, batch=256, longest=50, hidden=64, inner=256)


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
    sizes: Sizes = SMALL,
    graphed: bool = False,
) -> Run:
    """The same initial weights and the same log for every backend and device."""
    lambda_, beta = {"mclrec": (0.1, 0.2), "cl4srec": (0.1, 0.0), "sasrec": (0.0, 0.0)}[model]
    train = TrainConfig(schedule=schedule, backend=backend, batch_size=sizes.batch, device=device)
    config = Config(
        model=ModelConfig(
            model=model,
            hidden_size=sizes.hidden,
            inner_size=sizes.inner,
            max_length=sizes.longest,
            init_std=0.1,
        ),
        contrast=ContrastConfig(lambda_=lambda_, beta=beta),
        train=train,
    )
    place = torch.device(device)
    model_ = new_model(sizes.classes, config, place).to(dtype).train()
    step = (GraphedStep if graphed else TrainingStep)(model_, config)
    return Run(config, sample_table(sizes, place), step)


def sample_table(sizes: Sizes, device: torch.device) -> SampleTable:
    """Users with 1 to 2L - 2 items and a target."""
    random = np.random.default_rng(0)
    ends = random.integers(1, 2 * sizes.longest - 1, sizes.users)
    offsets = np.concatenate([[0], np.cumsum(ends + 1)])
    items = random.integers(1, sizes.classes, int(offsets[-1]))
    log = SimpleNamespace(items=items.astype(np.int32), offsets=offsets.astype(np.int64))
    users = np.arange(sizes.users, dtype=np.int32)
    samples = SimpleNamespace(users=users, ends=ends.astype(np.int32))
    return SampleTable(log, samples, sizes.longest, device)


def next_batch(run: Run) -> tuple[PackedSequences, Tensor, int]:
    """Views, targets and number of the first update of the next batch; users repeat."""
    size = run.config.train.batch_size
    first = run.batches * size % len(run.table)
    index = torch.arange(first, first + size, device=run.table.device)
    views, targets = sample_batch(
        run.table, index, run.config, run.batches, views=run.step.uses_views
    )
    run.batches += 1
    return views, targets, (run.batches - 1) * run.step.updates_per_batch


def run_batches(run: Run, count: int) -> dict[str, Tensor]:
    """Trains on `count` more batches; their losses by name, [count] on the run's device."""
    found = []
    for _ in range(count):
        views, targets, update = next_batch(run)
        found.append(run.step(views, targets, update=update))
    return {name: torch.stack([losses[name] for losses in found]) for name in found[0]}


def assert_same_trajectory(
    found: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-9
) -> None:
    """Every loss of every batch agrees, relative to the largest loss of its name (at least 1)."""
    for name, distance in distances(found, expected).items():
        assert distance <= relative, f"{name}: {distance:.3e} > {relative:.3e}"


def distances(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """How far apart two trajectories are, by name of the loss; see `assert_same_trajectory`."""
    assert found.keys() == expected.keys()
    result = {}
    for name, wanted in expected.items():
        difference = (found[name].cpu().double() - wanted.cpu().double()).abs().max()
        assert difference.isfinite()
        result[name] = float(difference) / max(1.0, float(wanted.abs().max()))
    return result
