"""What a training takes before it is run: memory by part, time of an epoch.

Sizes are counted; what cannot be (scratch, allocators, libraries) and the time come from doing a
second of it: some batches of the first epoch, which shuffles them, and of the validation. Nothing
is written.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..bars import duration
from ..config import Config
from ..console import Console
from ..data import load_dataset
from ..data.prepared import is_prepared
from ..errors import InputError
from ..evaluation import rank_samples
from ..models import model_class
from ..models.base import Pass
from ..sampling import SampleTable
from ..shuffling import Shuffled
from .graphs import training_step
from .machine import all_cores, machine_for
from .report import peak_rss_mb
from .step import TrainingStep

SECONDS = 0.5
"""Of measurement, for training and for validation each, behind the first two batches."""


@dataclass(frozen=True)
class Estimate:
    """The figures.

    Attributes:
        memory: MiB by part; together the most that the process holds.
        batches: of an epoch.
        seconds_per_epoch: of training.
        seconds_per_validation: behind it; 0 where nothing validates.
    """

    memory: dict[str, float]
    batches: int
    seconds_per_epoch: float
    seconds_per_validation: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "memory_mb": {**self.memory, "together": sum(self.memory.values())},
            "batches_per_epoch": self.batches,
            "seconds_per_epoch": self.seconds_per_epoch,
            "seconds_per_validation": self.seconds_per_validation,
        }


def estimate(config: Config, console: Console) -> Estimate:
    """Measures a training of this configuration, and says what it finds.

    Raises:
        InputError: the data or the configuration will not do; a model without updates.
    """
    config = all_cores(config)
    train = config.train
    with machine_for(train) as device:
        libraries = peak_rss_mb()
        with console.waiting("reading the data"):
            dataset = load_dataset(config.data, batch_size=train.batch_size, threads=train.threads)
        model = model_class(config.model.name)(config.model)
        if not model.iterative:
            raise InputError(f"model {config.model.name} is counted, not trained: nothing to tell")
        model.start(dataset.log.item_ids, train.seed)
        model.to(device)
        step, length = training_step(model, train), model.options.max_length
        samples = SampleTable.of(dataset, "train", length, device)
        valid = SampleTable.of(dataset, "valid", length, device)
        assert samples is not None
        batches = -(-len(samples) // train.batch_size)
        with console.waiting("a second of training"):
            of_sample = _time_of(_training(step, samples, config))
            of_valid = 0.0
            if valid is not None:
                valid = valid.some(train.valid_users, train.seed)
                of_valid = len(valid) * _time_of(_ranking(step, valid, config))
    of_log = [samples.items, samples.users, samples.ends]
    of_log += [] if valid is None else [valid.users, valid.ends]
    mapped = is_prepared(config.data.data) and device.type == "cpu"
    counted = {
        "log and samples": 0.0 if mapped else _size(of_log),  # what is mapped counts as touched
        "weights": _size(model.parameters()),
        "optimizer": _size(_tensors(step.state_dict())),
        "gradients": _size(model.parameters()),
    }
    rest = max(0.0, peak_rss_mb() - libraries - sum(counted.values()))
    memory = {"program and libraries": libraries, **counted, "scratch and allocators": rest}
    seconds = len(samples) * of_sample
    found = Estimate(memory, batches, seconds, of_valid)
    _say(found, console)
    return found


def _training(step: TrainingStep, samples: SampleTable, config: Config) -> Callable[[int], int]:
    """What trains on one batch of the first epoch; returns its samples."""
    train = config.train
    order = Shuffled(len(samples), seed=train.seed, epoch=0, device=samples.device)
    size = train.batch_size
    step.model.train()

    def one(number: int) -> int:
        first = number * size % len(samples)
        index = order.part(first, min(first + size, len(samples)))
        at = Pass(train.seed, number, train.backend)
        with step.threads():
            batch = step.model.sample(samples, index, at)
            losses = step(batch, update=number * step.updates_per_batch)
        float(next(iter(losses.values())))  # waits for a device
        return len(index)

    return one


def _ranking(step: TrainingStep, valid: SampleTable, config: Config) -> Callable[[int], int]:
    """What ranks one batch of the validation; returns its samples."""
    size = config.train.eval_batch_size

    def one(number: int) -> int:
        first = number * size % len(valid)
        some = valid.part(first, min(first + size, len(valid)))
        rank_samples(step.model, some, batch_size=size, backend=config.train.backend)
        return len(some)

    return one


def _time_of(one: Callable[[int], int]) -> float:
    """Seconds a sample: the median batch of half a second, the first two left out."""
    found: list[float] = []
    number, spent = 0, 0.0
    while number < 2 or spent < SECONDS or len(found) < 3:
        start = time.perf_counter()
        done = one(number)
        seconds = time.perf_counter() - start
        if number >= 2:
            spent += seconds
            found.append(seconds / done)
        number += 1
    return sorted(found)[len(found) // 2]


def _tensors(state: Any) -> list[Tensor]:
    """Every tensor of a state, however deep."""
    if isinstance(state, Tensor):
        return [state]
    inner = state.values() if isinstance(state, dict) else state
    return [t for part in inner for t in _tensors(part)] if isinstance(state, dict | list) else []


def _size(tensors: Iterable[Tensor]) -> float:
    """MiB."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20


def _say(found: Estimate, console: Console) -> None:
    rows = [[part, f"{size:.0f}"] for part, size in found.memory.items()]
    rows.append(["together", f"{sum(found.memory.values()):.0f}"])
    console.table("memory", ["part", "MiB"], rows)
    console.line(
        f"time: {duration(found.seconds_per_epoch)} an epoch ({found.batches} batches), "
        f"{duration(found.seconds_per_validation)} its validation"
    )
