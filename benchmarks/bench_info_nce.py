"""info_nce: two views, any batch size."""

from collections.abc import Callable

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import info_nce


@sweep("batch", "width")
def bench_info_nce(measure: Measure, case: Case) -> None:
    """The loss (dot products, temperature 0.5), and the loss with both gradients."""

    def prepare() -> Callable[[], object]:
        a, b = inputs.rows(case), inputs.rows(case)
        baseline = baselines.info_nce
        if case.backend == "compile":
            baseline = baselines.compiled(baseline, tiny=measure.tiny)
        if case.backend in ("eager", "compile"):
            return inputs.in_direction(case, lambda: baseline(a, b, 0.5), (a, b))
        return inputs.in_direction(
            case, lambda: info_nce(a, b, temperature=0.5, backend=case.option), (a, b)
        )

    B, D = case.batch, case.width
    blocks = 0 if case.backend == "native" else 4 * 4  # of [B, B]
    measure(
        case,
        prepare,
        gflop=work.info_nce(B, D, backward=case.backward),
        gb=4e-9 * (blocks * B * B * (2 if case.backward else 1) + 4 * B * D),
    )
