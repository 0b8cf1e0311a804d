"""item_cross_entropy: the softmax over the catalogue."""

from collections.abc import Callable

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import item_cross_entropy


@sweep("batch", "classes", "width")
def bench_item_cross_entropy(measure: Measure, case: Case) -> None:
    """Loss, and loss with both gradients."""

    def prepare() -> Callable[[], object]:
        h, items, targets = inputs.rows(case), inputs.item_table(case), inputs.targets(case)
        baseline = baselines.item_cross_entropy
        if case.backend == "compile":
            baseline = baselines.compiled(baseline, tiny=measure.tiny)
        if case.backend in ("eager", "compile"):
            return inputs.in_direction(case, lambda: baseline(h, items, targets), (h, items))
        return inputs.in_direction(
            case,
            lambda: item_cross_entropy(h, items, targets, backend=case.option),
            (h, items),
        )

    B, V, D = case.batch, case.classes, case.width
    matrices = 0 if case.backend == "native" else 4 if case.backward else 2  # of [B, V]
    measure(
        case,
        prepare,
        gflop=work.item_cross_entropy(B, V, D, backward=case.backward),
        gb=4e-9 * (matrices * B * V + 2 * D * (B + V)),
    )
