"""One training batch of the official schedule, from the log to updated weights: cost against work.

`python -m benchmarks.train_step` measures the same at Beauty's exact shape and is the figure to
quote; this one moves batch, items, length and width, to see that time follows arithmetic.
"""

from collections.abc import Callable
from itertools import count

from benchmarks import batches, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep


@sweep(
    "batch", "classes", "length", "width", backends=("reference", "native"), directions=("both",)
)  # fmt: skip
def bench_train_step(measure: Measure, case: Case) -> None:
    """Sampling, augmentation, three updates, both optimizers."""
    table = batches.sample_table(case)
    packed = next(
        batches.endless(table, batches.official_step(case, table.max_length), case)
    ).sequences

    def prepare() -> Callable[[], object]:
        step = batches.official_step(case, table.max_length)
        numbers, source = count(), batches.endless(table, step, case)

        def run() -> object:
            with step.threads():
                return step(next(source), update=next(numbers) * step.updates_per_batch)

        return run

    tokens, D = int(packed.offsets[-1]), case.width
    matrices = 0 if case.backend == "native" else 4
    measure(
        case,
        prepare,
        gflop=work.official_batch(packed.lengths.cpu(), case.classes, D),
        gb=4e-9 * (30 * tokens * D + matrices * case.batch * case.classes + 8 * case.classes * D),
        kernels=("augment_views", "encode", "item_cross_entropy", "contrast"),
        tokens=tokens,
    )
