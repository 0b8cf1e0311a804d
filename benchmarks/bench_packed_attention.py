"""packed_attention: causal attention within packed sequences of Beauty's lengths, dropout 0.5.

The plain baseline is torch's scaled_dot_product_attention on the batch padded to its longest
sequence. It is timed on tensors that are padded already, as a model that pads keeps them: padding
them is no work of an attention. The useful arithmetic counted is that of the visible pairs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import baselines, inputs, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast.ops import packed_attention

HEADS = 2


@sweep("batch", "length", "width")
def bench_packed_attention(measure: Measure, case: Case) -> None:
    """Contexts of all tokens, and contexts with the gradients of queries, keys and values."""
    n = inputs.lengths(case)
    plain = case.backend in ("eager", "compile")

    def vectors(*shape: int) -> Tensor:
        return torch.randn(*shape, case.width // HEADS).to(case.device).requires_grad_()

    def prepare() -> Callable[[], object]:
        if plain:
            q, k, v = (vectors(len(n), HEADS, int(n.max())) for _ in range(3))  # [S, H, W, d]
            baseline = baselines.causal_attention
            if case.backend == "compile":
                baseline = baselines.compiled(baseline, tiny=measure.tiny)
            return inputs.in_direction(case, lambda: baseline(q, k, v, 0.5).sum(), (q, k, v))

        q, k, v = (vectors(int(n.sum()), HEADS) for _ in range(3))  # [T, H, d]
        offsets = inputs.packed(case).offsets

        def total() -> Tensor:
            context: Tensor = packed_attention(
                q, k, v, offsets, dropout=0.5, seed=1, backend=case.option
            )
            return context.sum()

        return inputs.in_direction(case, total, (q, k, v))

    longest = float(n.max())
    tokens = len(n) * longest if plain else float(n.sum())
    # Scores, probabilities and what dropout keeps of them are stored by all but the kernel.
    pairs = 0.0 if case.backend == "native" else 4 * HEADS * len(n) * longest**2
    kept = 8 if case.backward else 4  # vectors of a token
    measure(
        case,
        prepare,
        gflop=work.packed_attention(n, case.width, backward=case.backward),
        gb=4e-9 * (tokens * case.width * kept + pairs),
        tokens=int(n.sum()),
    )
