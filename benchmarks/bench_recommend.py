"""recommend: ten items for histories of mean length 8, from item ids to item ids, in Python.

    pytest benchmarks/bench_recommend.py --threads 1
    python -m benchmarks.bench_recommend --threads 2    # the table of docs/recommending.md

The table: latency of a request of one history, and histories a second of a request of many; with
filters set up once (`Recommender.filtered`), whose requests alternate with those without.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks import machine, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast import Recommender, SASRec

K = 10
MANY = 4096
ITEMS = (12_101, 100_000, 1_000_000)


def recommender_of(
    items: int, width: int = 64, device: str = "cpu", backend: str = "auto"
) -> Recommender:
    """One that answers by the initial weights of SASRec."""
    model = SASRec(hidden_size=width, inner_size=4 * width, heads=1)
    model.start(np.arange(items + 1), 1)
    return Recommender(model.to(device), backend=backend)


def histories_of(count: int, items: int, length: int = 8) -> list[list[int]]:
    """Some histories, item ids."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 2 * length, count)
    return [rng.integers(1, items + 1, size).tolist() for size in sizes]


@sweep("batch", "classes", backends=("reference", "native"), directions=("run",), batch=1)
def bench_recommend(measure: Measure, case: Case) -> None:
    """Ten items for each history of a request."""
    items = case.classes - 1
    histories = histories_of(case.batch, items, case.length)

    def prepare() -> Callable[[], object]:
        recommender = recommender_of(items, case.width, case.device, case.option)
        return lambda: recommender.recommend(histories, min(K, items))

    D = case.width
    lengths = torch.tensor([len(history) for history in histories])
    gflop = work.encode(lengths, D, 4 * D, 2, 1, backward=False)
    gflop += work.ranking(case.batch, case.classes, D)
    scores = 0 if case.backend == "native" else 1 << 21
    gb = 4e-9 * (3 * scores + D * case.classes) + 1e-7 * case.batch
    measure(case, prepare, gflop=gflop, gb=gb, kernels=("gather_sequences", "encode", "top_k"))


def _filters(items: int) -> dict[str, dict[str, list[int]]]:
    some = np.random.default_rng(1).permutation(items) + 1
    return {
        "none": {},
        "1 % denied": {"exclude": some[: max(items // 100, 1)].tolist()},
        "10 % allowed": {"items": some[: max(items // 10, 1)].tolist()},
    }


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _rows(items: int, seconds: float, threads: int) -> list[str]:
    """The table's rows of one size: the filters take turns, so that all meet the same machine."""
    plain = recommender_of(items)
    ways = {name: plain.filtered(**lists) for name, lists in _filters(items).items()}
    one, many = (
        histories_of(500, items),
        histories_of(MANY if items < 500_000 else MANY // 8, items),
    )
    single: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # warm
        way.recommend(one[:20], K)
    until, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < until or turn < 100:
        history = one[turn % len(one) : turn % len(one) + 1]
        for name, way in ways.items():
            single[name].append(_seconds(partial(way.recommend, history, K)))
        turn += 1
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rates["none"]) < 3:
        for name, way in ways.items():
            rates[name].append(len(many) / _seconds(partial(way.recommend, many, K)))
    base = np.median(single["none"]), np.median(rates["none"])
    rows = []
    for name in ways:
        p50, p99 = np.percentile(single[name], [50, 99])
        rate = float(np.median(rates[name]))
        rows.append(
            f"| {items:,} | {threads} | {name} | {1e3 * p50:.2f} | {1e3 * p99:.2f} | {rate:,.0f} | "
            f"{p50 / base[0]:.2f} | {base[1] / rate:.2f} |".replace(",", " ")
        )
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the two figures")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    machine.warn_if_busy(machine.load_average())
    print("| items | threads | filter | p50 ms | p99 ms | histories/s | p50 x | time x |")
    print("|---|---|---|---|---|---|---|---|")
    for items in arguments.items:
        for row in _rows(items, arguments.seconds, arguments.threads):
            print(row, flush=True)
    stamp = machine.stamp(arguments.threads)
    print(f"{stamp['cpu_name']}, {stamp['isa']}, load {stamp['load_average']:.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
