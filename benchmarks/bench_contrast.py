"""contrast: L_cl2 and R of four views in one pass (lambda = 0)."""

from collections.abc import Callable

import torch

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import contrast


@sweep("batch", "width")
def bench_contrast(measure: Measure, case: Case) -> None:
    """The losses, and the losses with the gradients of all four views."""

    def prepare() -> Callable[[], object]:
        h1, h2, z1, z2 = views = [inputs.rows(case) for _ in range(4)]
        baseline = baselines.contrast
        if case.backend == "compile":
            baseline = baselines.compiled(baseline, tiny=measure.tiny)
        if case.backend in ("eager", "compile"):
            return inputs.in_direction(case, lambda: baseline(h1, h2, z1, z2), views)

        def loss() -> torch.Tensor:
            _, cl2, r = contrast(h1, h2, z1, z2, cl1=False, backend=case.option)
            total: torch.Tensor = cl2 + 0.1 * r
            return total

        return inputs.in_direction(case, loss, views)

    B, D = case.batch, case.width
    blocks = {"native": 0, "reference": 16}.get(case.backend, 3 * 4 * 4)  # of [B, B]
    measure(
        case,
        prepare,
        gflop=work.contrast(B, D, backward=case.backward),
        gb=4e-9 * (blocks * B * B * (2 if case.backward else 1) + 8 * B * D),
    )
