"""Do N processes compute what one does? Losses, gradients and weights side by side, as a table.

    python -m benchmarks.equality --processes 1 2 3 4

Trains a few batches of every model, schedule and kind of negatives on a small log, the last batches
partial, one of them with fewer samples than processes. Compared with one process that cuts batches
into the same parts (to the bit, or by how much not), and with one that does not cut them.
"""

import argparse
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mclrec_fast.config import TrainConfig
from mclrec_fast.models import model_class
from mclrec_fast.models.base import Batch, Pass
from mclrec_fast.parallel import ALONE, Group, joined
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.step import TrainingStep

PARTS = 4
ITEMS, SIZES = 150, (40, 40, 40, 25, 3, 1)
OPTIONS = {"hidden_size": 16, "inner_size": 32, "max_length": 12}


class Case(NamedTuple):
    """What is trained."""

    model: str
    options: Mapping[str, Any]
    negatives: str = "global"
    backend: str = "native"

    @property
    def name(self) -> str:
        """In words."""
        rest = [f"{name} {value}" for name, value in self.options.items() if name != "lambda"]
        alone = self.model in ("sasrec", "gru4rec")
        words = [self.model, *rest, "" if alone else self.negatives]
        return ", ".join(filter(None, [*words, "autograd" if self.backend == "torch" else ""]))


_MCLREC: list[dict[str, Any]] = [
    *({"schedule": name} for name in ("paper", "official", "joint")),
    {"schedule": "official", "reuse_views": True},
]
CASES = [
    Case("sasrec", {}),
    *(Case("cl4srec", {"lambda": 0.1}, negatives) for negatives in ("global", "local")),
    *(
        Case("mclrec", {"lambda": 0.1, **options}, negatives)
        for options in _MCLREC
        for negatives in ("global", "local")
    ),
    Case("sasrec", {}, backend="torch"),
    Case("cl4srec", {"lambda": 0.1}, backend="torch"),
    Case("mclrec", {"lambda": 0.1, "schedule": "official"}, backend="torch"),
    Case("mclrec", {"lambda": 0.1, "reuse_views": True}, backend="torch"),
    Case("gru4rec", {}, backend="torch"),
]


class Found(NamedTuple):
    """What a training came to."""

    losses: list[dict[str, float]]  # of each batch
    gradients: list[Tensor]  # of the first batch, of every update, before any of them
    weights: list[Tensor]  # at the end


def table() -> SampleTable:
    """Samples of a small random log."""
    random = np.random.default_rng(0)
    ends = random.integers(1, 20, sum(SIZES))
    offsets = np.concatenate([[0], np.cumsum(ends + 1)]).astype(np.int64)
    items = random.integers(1, ITEMS, int(offsets[-1])).astype(np.int32)
    users = np.arange(len(ends), dtype=np.int32)
    samples = SimpleNamespace(users=users, ends=ends.astype(np.int32))
    log = SimpleNamespace(items=items, offsets=offsets)
    return SampleTable(log, samples, OPTIONS["max_length"], torch.device("cpu"))


def train(case: Case, group: Group = ALONE, parts: int = PARTS) -> Found:
    """A few batches of a case."""
    of_model = {n: v for n, v in OPTIONS.items() if case.model != "gru4rec" or n != "inner_size"}
    model = model_class(case.model)(**of_model, **case.options)
    model.start(np.arange(ITEMS), 1)
    settings = TrainConfig(backend=case.backend, batch_parts=parts, negatives=case.negatives)
    step = TrainingStep(model.train(), settings, group)
    samples, first, batches = table(), 0, list[Batch]()
    for number, size in enumerate(SIZES):
        index = torch.arange(first, first + size)
        batches.append(model.sample(samples, index, Pass(settings.seed, number, case.backend)))
        first += size
    gradients = []
    for number, update in enumerate(step._updates):
        at = Pass(settings.seed, number, case.backend, step.share)
        gradients += [g.clone() for g in step._differentiate(update, batches[0], at)[1]]
    losses = []
    for number, batch in enumerate(batches):
        found = step(batch, update=number * step.updates_per_batch)
        losses.append({name: float(loss) for name, loss in found.items()})
    return Found(losses, gradients, [w.detach().clone() for w in model.parameters()])


class Distance(NamedTuple):
    """How far apart two trainings are."""

    loss: float  # largest, relative to the loss (at least 1)
    gradient: float  # largest, relative to the largest of its array
    weight: float  # largest
    bits: bool  # whether everything is equal to the bit


def distance(found: Found, other: Found) -> Distance:
    """Between two trainings of one case."""
    loss = max(
        abs(mine[name] - theirs[name]) / max(1.0, abs(theirs[name]))
        for mine, theirs in zip(found.losses, other.losses, strict=True)
        for name in theirs
    )
    # What is 0 in theory is rounding in both: it is measured by the largest gradient there is.
    floor = 1e-3 * max(float(g.abs().max()) for g in other.gradients)
    gradient = max(
        float((mine - theirs).abs().max()) / max(float(theirs.abs().max()), floor)
        for mine, theirs in zip(found.gradients, other.gradients, strict=True)
    )
    weight = max(
        float((mine - theirs).abs().max())
        for mine, theirs in zip(found.weights, other.weights, strict=True)
    )
    equal = all(
        mine.equal(theirs)
        for mine, theirs in zip(
            found.gradients + found.weights, other.gradients + other.weights, strict=True
        )
    )
    return Distance(loss, gradient, weight, equal and found.losses == other.losses)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def start(module: str, size: int, *arguments: str, **more: Any) -> list["subprocess.Popen[Any]"]:
    """So many processes of `python -m module`, as torchrun would start them."""
    environment = os.environ | {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment | {"RANK": str(number), "LOCAL_RANK": str(number)},
            **more,
        )
        for number in range(size)
    ]


def together(size: int, cases: Sequence[int]) -> list[list[Found]]:
    """What each of `size` processes finds, by process and case."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = [str(number) for number in cases]
        workers = start("benchmarks.equality", size, "--worker", folder, "--cases", *numbers)
        codes = [worker.wait(timeout=300) for worker in workers]
        if any(codes):
            raise RuntimeError(f"the processes ended with {codes}")
        files = [Path(folder, f"{number}.pickle") for number in range(size)]
        return [pickle.loads(file.read_bytes()) for file in files]


def _work(folder: str, cases: Iterable[int]) -> None:
    torch.set_num_threads(1)
    with joined("cpu", 60.0) as group:
        found = [train(CASES[number], group) for number in cases]
        Path(folder, f"{group.number}.pickle").write_bytes(pickle.dumps(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        from benchmarks import equality  # by its name, which is what pickles know it by

        equality._work(arguments.worker, arguments.cases)
        return
    torch.set_num_threads(1)
    same, plain = ([train(CASES[n], parts=p) for n in arguments.cases] for p in (PARTS, 1))
    print(
        "| model | processes | bits of one process, same parts | apart: loss | gradient | weight "
        "| apart from uncut batches: loss | gradient | weight |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for size in arguments.processes:
        everyones = together(size, arguments.cases) if size > 1 else [same]
        for place, number in enumerate(arguments.cases):
            for of_process in everyones[1:]:
                assert distance(of_process[place], everyones[0][place]).bits, "processes differ"
            found = everyones[0][place]
            near, far = (distance(found, of[place]) for of in (same, plain))
            apart = [f"{x:.1e}" for x in (*near[:3], *far[:3])]
            bits = "equal" if near.bits else "not"
            print("|", " | ".join([CASES[number].name, str(size), bits, *apart]), "|")


if __name__ == "__main__":
    main()
