"""`python -m benchmarks.progress`: how the training batch got fast, one exact saving a row.

Beauty's shape, official schedule. Every measured row trains the same function; the first row is
quoted. GFLOP are counted from the batches' own lengths. Not a comparison of machines: ms x peak
(the product) is.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import batches, encoders, machine, report, shapes, work
from benchmarks.sweep import Case
from mclrec_fast import _native
from mclrec_fast.config import Config
from mclrec_fast.data import InteractionLog, split
from mclrec_fast.model import MCLRec
from mclrec_fast.ops import PackedSequences
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.schedules import TrainingStep

AUTHORS = {
    "step": "the authors' code: padded, nine encoder forwards, 21 full similarity matrices",
    "gflop": 75.6,
    "ms": 3030.0,
    "fma_peak_gflops": 198.0,
    "quoted": True,
}
NAMES = {
    "padded": "padded to 50 tokens; each similarity block once, no encoder backward for augmenters",
    "packed": "packed: no padding, masked items leave the view",
    "last": "last layer: query, output and feed-forward for the last token only",
    "absorbed": "last layer's keys and values absorbed into that query (the torch path)",
    "fused": "native kernels",
}
KERNELS = ("augment_views", "encode", "item_cross_entropy", "contrast")


def encoder_gflop(name: str, lengths: Tensor, D: int, max_length: int, layers: int = 2) -> float:
    """Arithmetic of one encoder forward in the form of a row."""
    n = torch.full_like(lengths, max_length) if name == "padded" else lengths
    if name in ("absorbed", "fused"):
        return work.encode(n, D, 4 * D, layers, 2, backward=False)
    tokens, sequences = float(n.sum()), len(n)
    one_more = work.encode(n, D, 4 * D, layers + 1, 2, backward=False)
    full = one_more - work.encode(n, D, 4 * D, layers, 2, backward=False)  # one full layer
    if name in ("padded", "packed"):
        return layers * full
    # Keys and values for all tokens; query, output, feed-forward and attention for the last ones.
    return (layers - 1) * full + 1e-9 * (4 * D * D + 4 * D) * tokens + 20e-9 * D * D * sequences


def batch_gflop(name: str, lengths: Tensor, V: int, D: int, max_length: int) -> float:
    """Arithmetic of one official batch in the form of a row; lengths of its 3B sequences."""
    B = len(lengths) // 3
    rest = work.official_batch(lengths, V, D)
    rest -= 2 * work.encode(lengths, D, 4 * D, 2, 2, backward=True)
    rest -= work.encode(lengths[B:], D, 4 * D, 2, 2, backward=False)
    views = encoder_gflop(name, lengths[B:], D, max_length)
    return rest + 6 * encoder_gflop(name, lengths, D, max_length) + views


def _forward(name: str, model: MCLRec) -> Callable[..., Tensor] | None:
    """What replaces the encoder's forward in a row; None for the encoder's own."""
    c = model.encoder.config
    if name in ("absorbed", "fused"):
        return None

    def forward(packed: PackedSequences, *, seed: int, update: int, backend: str) -> Tensor:
        return encoders.encode(
            packed,
            model.encoder.weights(),
            heads=c.heads,
            hidden_dropout=c.hidden_dropout,
            attention_dropout=c.attention_dropout,
            eps=c.layer_norm_eps,
            seed=seed,
            update=update,
            padded_to=c.max_length if name == "padded" else None,
            last_token_only=name == "last",
        )

    return forward


def measure(
    name: str, log: InteractionLog, config: Config, *, batch_count: int, warm_up: int
) -> dict[str, Any]:
    """One row: median milliseconds of a batch, and its arithmetic.

    Args:
        name: a key of `NAMES`.
        log: the interactions.
        config: of the run; its backend is replaced by the row's.
        batch_count: timed batches.
        warm_up: batches before those.
    """
    backend = "native" if name == "fused" else "torch"
    config = replace(config, train=replace(config.train, backend=backend))
    threads = torch.get_num_threads()
    peak = machine.fma_peak(threads)
    table = SampleTable(log, split(log).train, config.model.max_length, torch.device("cpu"))
    torch.manual_seed(config.train.seed)
    model = MCLRec(log.n_classes, config).train()
    forward = _forward(name, model)
    if forward is not None:
        model.encoder.forward = forward  # type: ignore[method-assign]
    step, source = TrainingStep(model, config), batches.endless(table, config)
    times, gflop = _time(name, step, source, batch_count, warm_up, log.n_classes)
    ms = float(np.median(times))
    again = machine.fma_peak(threads)
    peak = max(peak, again) if peak is not None and again is not None else None
    return {"step": NAMES[name], "gflop": gflop, "ms": ms, "fma_peak_gflops": peak, "quoted": False}


def _time(
    name: str,
    step: TrainingStep,
    source: Iterator[tuple[PackedSequences, Tensor]],
    count: int,
    warm_up: int,
    classes: int,
) -> tuple[list[float], float]:
    times, gflop, model = [], 0.0, step.model.encoder.config
    for number in range(warm_up + count):
        start = time.perf_counter()
        views, targets = next(source)
        step(views, targets, update=number * step.updates_per_batch)
        if number >= warm_up:
            times.append((time.perf_counter() - start) * 1000)
            sizes = (classes, model.hidden_size, model.max_length)
            gflop += batch_gflop(name, views.lengths, *sizes) / count
    return times, gflop


def show(rows: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = []
    for row in rows:
        peak, rate = row["fma_peak_gflops"], row["gflop"] / row["ms"] * 1000
        lines.append(
            [
                row["step"] + (" (quoted)" if row["quoted"] else ""),
                report.number(row["gflop"]),
                report.number(row["ms"]),
                report.number(rate),
                report.number(100 * rate / peak if peak else None),
                report.number(row["ms"] * peak / 1000 if peak else None),
            ]
        )
    header = ["step", "GFLOP", "ms", "GFLOP/s", "% of peak", "ms x peak / 1000"]
    return report.table(header, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.progress", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=30, help="timed batches of a row")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    machine.warn_if_busy(machine.load_average())
    config = batches.config_of(Case("progress", "reference", "both"), 50, "official")
    config = replace(config, train=replace(config.train, batch_size=arguments.batch))
    log, rows = shapes.beauty_log(), [AUTHORS]
    for name in arguments.rows:
        missing = [op for op in KERNELS if not _native.has_kernel(op)]
        if name == "fused" and missing:
            print(f"skipped {NAMES[name]}: no kernel of {', '.join(missing)}", file=sys.stderr)
            continue
        options = {"batch_count": arguments.batches, "warm_up": arguments.warm_up}
        rows.append(measure(name, log, config, **options))
    print(json.dumps(rows, indent=2) if arguments.json else show(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
