"""A small training run, batch by batch, for any device and backend; float64 weights."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from mclrec_fast.config import TrainConfig
from mclrec_fast.models import model_class
from mclrec_fast.models.base import Batch, Pass
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.graphs import GraphedStep
from mclrec_fast.training.step import TrainingStep


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

    settings: TrainConfig
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
    terms = {
        "mclrec": {"lambda": 0.1, "beta": 0.2, "schedule": schedule},
        "cl4srec": {"lambda": 0.1},
    }
    settings = TrainConfig(backend=backend, batch_size=sizes.batch, device=device)
    made = model_class(model)(
        hidden_size=sizes.hidden,
        inner_size=sizes.inner,
        max_length=sizes.longest,
        init_std=0.1,
        **terms.get(model, {}),
    )
    made.start(np.arange(sizes.classes), settings.seed)
    place = torch.device(device)
    step = (GraphedStep if graphed else TrainingStep)(made.to(place, dtype).train(), settings)
    return Run(settings, sample_table(sizes, place), step)


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


def next_batch(run: Run) -> tuple[Batch, int]:
    """The next batch and the number of its first update; users repeat."""
    size = run.settings.batch_size
    first = run.batches * size % len(run.table)
    index = torch.arange(first, first + size, device=run.table.device)
    batch = sample(run, index, run.batches)
    run.batches += 1
    return batch, (run.batches - 1) * run.step.updates_per_batch


def sample(run: Run, index: Tensor, number: int) -> Batch:
    """The batch of that number, of these samples."""
    at = Pass(run.settings.seed, number, run.settings.backend)
    return run.step.model.sample(run.table, index, at)


def run_batches(run: Run, count: int) -> dict[str, Tensor]:
    """Trains on `count` more batches; their losses by name, [count] on the run's device."""
    found = []
    for _ in range(count):
        batch, update = next_batch(run)
        found.append(run.step(batch, update=update))
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
