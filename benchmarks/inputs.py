"""Inputs of the op benchmarks: random, of the sizes of a case and on its device."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks import shapes
from benchmarks.sweep import Case
from mclrec_fast.models.encoder import Encoder
from mclrec_fast.models.options import EncoderOptions
from mclrec_fast.ops import PackedSequences


def run_both(loss: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Callable[[], object]:
    """Forward and backward of a scalar, as one call."""
    return lambda: torch.autograd.grad(loss(), leaves, allow_unused=True)


def in_direction(
    case: Case, loss: Callable[[], Tensor], leaves: Sequence[Tensor]
) -> Callable[[], object]:
    """What to time: the scalar alone, without gradients, or with the gradients of the leaves."""
    if case.backward:
        return run_both(loss, leaves)

    def forward() -> object:
        with torch.no_grad():
            return loss()

    return forward


def rows(case: Case, *, gradient: bool = True) -> Tensor:
    """Row vectors [B, D] of norm about 1."""
    h = torch.randn(case.batch, case.width) / math.sqrt(case.width)
    return h.to(case.device).requires_grad_(gradient)


def item_table(case: Case, *, gradient: bool = True) -> Tensor:
    """Item vectors [V, D]."""
    table = torch.randn(case.classes, case.width) * 0.1
    return table.to(case.device).requires_grad_(gradient)


def targets(case: Case) -> Tensor:
    """An item for each row [B]."""
    return torch.randint(1, case.classes, (case.batch,)).to(case.device)


def lengths(case: Case, count: int | None = None) -> Tensor:
    """Lengths [S] of Beauty's distribution, stretched to the case's mean; int64, on the CPU."""
    count = case.batch if count is None else count
    shape = np.random.default_rng(0).permutation(shapes.beauty_lengths(max(count, 8)))[:count]
    stretched = np.rint(np.minimum(shape, 50) * (case.length / 8.4))
    return torch.from_numpy(np.maximum(stretched, 1).astype(np.int64))


def packed(case: Case) -> PackedSequences:
    """S = B packed sequences of random items."""
    n = lengths(case)
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), n.cumsum(0)))
    items = torch.randint(1, case.classes, (int(offsets[-1]),), dtype=torch.int32)
    positions = torch.cat([torch.arange(int(k), dtype=torch.int32) for k in n])
    batch = (items, positions, offsets.int())
    return PackedSequences(*(tensor.to(case.device) for tensor in batch))


def histories(case: Case) -> tuple[Tensor, Tensor]:
    """A list of items for each row: items int32 [K], offsets int64 [B + 1]."""
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths(case).cumsum(0)))
    items = torch.randint(1, case.classes, (int(offsets[-1]),), dtype=torch.int32)
    return items.to(case.device), offsets.to(case.device)


def encoder_weights(case: Case, longest: int) -> tuple[list[Tensor], EncoderOptions]:
    """Weights of an encoder for the case, inner size 4 D."""
    config = EncoderOptions(
        hidden_size=case.width, inner_size=4 * case.width, max_length=max(50, longest)
    )
    return Encoder(case.classes, config).to(case.device).weights(), config
