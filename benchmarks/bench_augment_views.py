"""augment_views: histories and two views of each, from the log to a packed batch."""

from collections.abc import Callable

import torch

from benchmarks import inputs
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import augment_views


@sweep("batch", "length", backends=("reference", "native"), directions=("run",))
def bench_augment_views(measure: Measure, case: Case) -> None:
    """Two views of each history; plain vectorised PyTorch is the reference itself."""
    n = inputs.lengths(case)

    def prepare() -> Callable[[], object]:
        log = torch.randint(1, case.classes, (1_000_000 + int(n.max()),), dtype=torch.int32)
        starts = torch.randint(0, 1_000_000, (len(n),)).to(case.device)
        log, lengths = log.to(case.device), n.int().to(case.device)
        return lambda: augment_views(
            log,
            starts,
            lengths,
            max_length=int(n.max()),
            crop_ratio=0.5,
            mask_ratio=0.5,
            reorder_ratio=0.8,
            seed=1,
            batch=0,
            backend=case.option,
        )

    measure(case, prepare, gflop=None, gb=4e-9 * 50 * float(n.max()) * len(n), tokens=int(n.sum()))
