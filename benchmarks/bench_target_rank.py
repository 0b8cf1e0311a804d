"""target_rank: full ranking, history unmasked and masked, for B users."""

from collections.abc import Callable

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import target_rank


@sweep(
    "batch", "classes", "width", backends=("eager", "reference", "native"), directions=("run",),
    batch=4096,
)  # fmt: skip
def bench_target_rank(measure: Measure, case: Case) -> None:
    """Ranks of B targets; the plain baseline counts no ties."""

    def prepare() -> Callable[[], object]:
        h, items = inputs.rows(case, gradient=False), inputs.item_table(case, gradient=False)
        arguments = (h, items, inputs.targets(case), *inputs.histories(case))
        if case.backend == "eager":
            return lambda: baselines.target_rank(*arguments)
        return lambda: target_rank(*arguments, backend=case.option)

    B, V, D = case.batch, case.classes, case.width
    scores = {"native": 0, "reference": 1 << 20}.get(case.backend, 256 * V)
    measure(case, prepare, gflop=work.ranking(B, V, D), gb=4e-9 * (3 * scores + D * (B + V)))
