"""encode: the whole encoder, dropout 0.5, on packed sequences of Beauty's lengths.

The plain baseline pads to the longest sequence of the batch and computes every layer for every
token; the useful arithmetic counted is that of the packed, last-token form for all of them.
"""

from collections.abc import Callable

from torch import Tensor

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import encode


@sweep("batch", "length", "width")
def bench_encode(measure: Measure, case: Case) -> None:
    """Representations, and representations with the gradients of all weights."""
    n = inputs.lengths(case)

    def prepare() -> Callable[[], object]:
        weights, config = inputs.encoder_weights(case, int(n.max()))
        packed = inputs.packed(case)
        if case.backend in ("eager", "compile"):
            items, lengths = baselines.padded(packed.items, packed.offsets)
            baseline = baselines.encode
            if case.backend == "compile":
                baseline = baselines.compiled(baseline, tiny=measure.tiny)
            return inputs.in_direction(
                case,
                lambda: baseline(items, lengths, weights, config.heads, 0.5).sum(),
                weights,
            )

        def total() -> Tensor:
            h: Tensor = encode(
                packed,
                weights,
                heads=config.heads,
                hidden_dropout=0.5,
                attention_dropout=0.5,
                eps=config.layer_norm_eps,
                seed=1,
                update=0,
                backend=case.option,
            )
            return h.sum()

        return inputs.in_direction(case, total, weights)

    D = case.width
    plain = case.backend in ("eager", "compile")
    tokens = float(len(n) * n.max()) if plain else float(n.sum())
    kept = 30 if case.backward else 8  # activations of a token, in units of D
    measure(
        case,
        prepare,
        gflop=work.encode(n, D, 4 * D, 2, 2, backward=case.backward),
        gb=4e-9 * (tokens * D * kept + 3 * case.classes * D),
        tokens=int(n.sum()),
    )
