"""The log reader: a CSV of user, item, time, from the page cache to the CSR log."""

import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.data import load_dataset, reader


def _write(path: Path, rows: int) -> None:
    """Some users with power-law items, rows in random order of users, times rising."""
    rng = np.random.default_rng(0)
    users = rng.integers(1, rows // 10 + 2, rows) * 7919 % 100_000_007
    items = (rng.pareto(1.0, rows) * 50).astype(np.int64) % (rows // 8 + 2)
    with path.open("w") as file:
        file.write("user,item,time\n")
        for start in range(0, rows, 1 << 20):
            stop = min(start + (1 << 20), rows)
            lines = zip(
                users[start:stop].tolist(),
                items[start:stop].tolist(),
                range(1_600_000_000 + start, 1_600_000_000 + stop),
                strict=True,
            )
            file.write("".join(f"{u},{i},{t}\n" for u, i, t in lines))


@sweep("rows", backends=("numpy", "native"), directions=("run",), devices=("cpu",))
def bench_reader(measure: Measure, case: Case) -> None:
    """Parse, number the ids, sort, build the CSR log; the split and the data card included."""
    if case.backend == "native" and not reader.available():
        pytest.skip("the C++ reader is not built")
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "log.csv"

    def prepare() -> Callable[[], object]:
        _write(path, case.rows)

        def run() -> object:
            return load_dataset(
                data=str(path),
                format="csv",
                user_col="user",
                item_col="item",
                time_col="time",
                reader=case.backend,
                threads=torch.get_num_threads(),
            )

        weakref.finalize(run, folder.cleanup)
        return run

    try:
        measure(case, prepare, gflop=None, gb=2e-7 * case.rows, kernels=())
    finally:
        folder.cleanup()
