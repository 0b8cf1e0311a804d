"""top_k: the 20 best items of each of B users, what they had excluded."""

from collections.abc import Callable

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import top_k

K = 20


@sweep(
    "batch", "classes", "width", backends=("eager", "reference", "native"), directions=("run",)
)  # fmt: skip
def bench_top_k(measure: Measure, case: Case) -> None:
    """The 20 best items of each row."""

    def prepare() -> Callable[[], object]:
        h, items = inputs.rows(case, gradient=False), inputs.item_table(case, gradient=False)
        exclude = inputs.histories(case)
        k = min(K, case.classes - 1)
        if case.backend == "eager":
            return lambda: baselines.top_k(h, items, k, *exclude)
        return lambda: top_k(h, items, k, *exclude, backend=case.option)

    B, V, D = case.batch, case.classes, case.width
    scores = {"native": 0, "reference": 1 << 21}.get(case.backend, 256 * V)
    measure(case, prepare, gflop=work.ranking(B, V, D), gb=4e-9 * (3 * scores + D * (B + V)))
