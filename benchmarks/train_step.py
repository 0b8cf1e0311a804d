"""`python -m benchmarks.train_step`: the time of one training batch, from the log to new weights.

A batch is everything the training loop does for it: taking samples from the CSR log, augmentation,
packing, all updates of the schedule and their optimizers. Every batch is a different one, and no
forward pass is used twice (unless --reuse-views asks for it).
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import machine, shapes, work
from mclrec_fast import _native
from mclrec_fast import config as configuration
from mclrec_fast.config import Config
from mclrec_fast.config_keys import Given, show
from mclrec_fast.data import InteractionLog, load_dataset, split
from mclrec_fast.errors import InputError
from mclrec_fast.models import model_class
from mclrec_fast.models.base import Model, Pass
from mclrec_fast.models.options import MCLRecOptions
from mclrec_fast.ops.philox import shuffle_order
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.graphs import GraphedStep, training_step
from mclrec_fast.training.machine import all_cores, machine_for
from mclrec_fast.training.step import TrainingStep


def measure(log: InteractionLog, config: Config, *, batches: int, warm_up: int) -> dict[str, Any]:
    """Times training batches.

    Args:
        log: the interactions.
        config: what to train and how.
        batches: timed batches, each another one.
        warm_up: batches before those.

    Returns:
        The figures, json-able.
    """
    load = machine.load_average()
    threads = config.train.threads or 1
    with machine_for(config.train) as device:
        peak_before = machine.fma_peak(threads)
        table = SampleTable(log, split(log).train, config.model.max_length, device)
        model = model_class(config.model.name)(config.model)
        model.start(log.item_ids, config.train.seed)
        step = training_step(model.to(device).train(), config.train)
        times, tokens, gflop = _time_batches(table, step, config, batches, warm_up)
        peak_after = machine.fma_peak(threads)
    median = float(np.median(times))
    peak = None if peak_before is None or peak_after is None else max(peak_before, peak_after)
    return {
        "batch": config.train.batch_size,
        "schedule": getattr(config.model, "schedule", None),
        "backend": _native.backend(config.train.backend, device),
        "isa": _native.isa(),
        "precision": config.train.precision,
        "threads": threads,
        "median_ms": median,
        "p10_ms": float(np.quantile(times, 0.1)),
        "sequences_per_s": config.train.batch_size / median * 1000,
        "fma_peak_gflops": peak,
        "load_average": load,
        "gflop": gflop,
        "percent_of_peak": 1e5 * gflop / (median * peak) if gflop and peak else None,
        "product": None if peak is None else median * peak / 1000,
        "fma_peak_before_gflops": peak_before,
        "fma_peak_after_gflops": peak_after,
        "batches": batches,
        "tokens_per_batch": tokens,
        "classes": log.n_classes,
        "model": config.model.name,
        "device": str(device),
        "cuda_graphs": isinstance(step, GraphedStep),
        "data": log.source,
    }


def _time_batches(
    table: SampleTable,
    step: TrainingStep,
    config: Config,
    batches: int,
    warm_up: int,
) -> tuple[list[float], float, float | None]:
    """Milliseconds of each batch; on average its tokens and its useful arithmetic in GFLOP.

    The arithmetic of MCLRec's official schedule only: None for others.
    """
    options = config.model
    counted = (
        isinstance(options, MCLRecOptions)
        and options.schedule == "official"
        and not options.reuse_views
    )
    gflop = 0.0
    size, seed = config.train.batch_size, config.train.seed
    wanted = batches + warm_up
    epochs = -(-wanted * size // (len(table) - len(table) % size or 1))
    orders = [shuffle_order(len(table), seed=seed, epoch=epoch) for epoch in range(epochs)]
    full = [i for order in orders for i in order.split(size) if len(i) == size][:wanted]
    times, tokens = [], 0
    for number, index in enumerate(full):
        _wait(table.device)
        start = time.perf_counter()
        with step.threads():
            batch = step.model.sample(table, index, Pass(seed, number, config.train.backend))
            step(batch, update=number * step.updates_per_batch)
        _wait(table.device)
        if number >= warm_up:
            times.append((time.perf_counter() - start) * 1000)
            tokens += int(batch.sequences.offsets[-1])
            if counted:
                gflop += _official_gflop(batch.sequences.lengths.cpu(), step.model)
    return times, tokens / len(times), gflop / len(times) if counted else None


def _official_gflop(lengths: torch.Tensor, model: Model) -> float:
    options = model.options
    assert isinstance(options, MCLRecOptions)
    return work.official_batch(
        lengths, model.n_classes, options.hidden_size, layers=options.layers, heads=options.heads
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--schedule", help="of mclrec: official, paper or joint")
    parser.add_argument(
        "--reuse-views", action="store_const", const="true", help="of mclrec, see the option"
    )
    parser.add_argument("--model", default="mclrec")
    parser.add_argument("--threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", help="bf16x3 or bf16 (AMX), tf32 or bf16 (a GPU)")
    parser.add_argument(
        "--no-cuda-graphs",
        action="store_const",
        const="false",
        dest="cuda_graphs",
        help="on a GPU: launch by launch",
    )
    parser.add_argument("--batch", default="256", help="samples of a batch")
    parser.add_argument("--batches", type=int, default=120, help="timed batches, 100 or more")
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--data", metavar="FILE", help="a log (default: Beauty's shape, generated)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    named = (
        "backend", "schedule", "reuse_views", "model", "threads", "device", "precision",
        "cuda_graphs",
    )  # fmt: skip
    values = {name: getattr(arguments, name) for name in named} | {"batch_size": arguments.batch}
    try:
        given = configuration.checked(
            {
                name: Given(text, f"--{name}", text=True)
                for name, text in values.items()
                if text is not None
            }
        )
        config = all_cores(configuration.resolve(given).config)
        log = load_dataset(data=arguments.data).log if arguments.data else shapes.beauty_log()
        figures = measure(log, config, batches=arguments.batches, warm_up=arguments.warm_up)
    except InputError as error:
        parser.error(str(error))
    machine.warn_if_busy(figures["load_average"])
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(f"{name:<24}{show(v)}" for name, v in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
