"""Weights and packed batches for the encoder's tests, by name of what is ugly about them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mclrec_fast.ops import PackedSequences

ITEMS, POSITIONS = 60, 200


@dataclass(frozen=True)
class Case:
    """Sequence lengths and the encoder's sizes; ``masked``: share of last tokens with id 0."""

    lengths: list[int]
    hidden: int = 64
    inner: int = 256
    heads: int = 2
    layers: int = 2
    masked: float = 0.0
    masked_anywhere: float = 0.0
    spare: int = 0
    eps: float = 1e-12


MIXED = [3, 1, 5, 50, 2, 8, 8, 9, 7, 17, 33, 1, 4, 16, 32, 31, 64, 65]

CASES = {
    "one token": Case([1]),
    "one row": Case([9]),
    "mixed": Case(MIXED),
    "masked last tokens": Case(MIXED, masked=0.5),
    "masked single tokens": Case([1] * 6, masked=0.7),
    "masked tokens anywhere": Case(MIXED, masked_anywhere=0.3),
    "spare capacity": Case(MIXED, spare=77),
    "lengths all equal": Case([7] * 60),
    "only single tokens": Case([1] * 150),
    "one long row": Case([200]),
    "a long row among short ones": Case([2] * 300 + [150] + [3] * 300),
    "many chunks": Case([1, 2, 3, 4, 5, 6, 7] * 100),
    "width 8, four heads of 2": Case(MIXED, 8, 16, 4, 2),
    "width 24, one head": Case(MIXED, 24, 40, 1, 1),
    "width 18, heads of 6": Case(MIXED, 18, 33, 3, 2),
    "width 72, heads of 18": Case(MIXED, 72, 100, 4, 3),
    "width 48, heads of 24": Case(MIXED, 48, 64, 2, 2),
    # The variance of one element is 0: a small eps would magnify rounding a million times.
    "width 1": Case(MIXED, 1, 1, 1, 2, eps=0.1),
    "one layer": Case(MIXED, layers=1),
    "three layers": Case(MIXED, layers=3),
    "four heads": Case(MIXED, heads=4),
    "inner size 130": Case(MIXED, inner=130),
    "inner size 1": Case(MIXED, inner=1),
}
# Around the vectors and register tiles of every instruction set.
CASES |= {f"width {d}": Case(MIXED, d, 2 * d + 1, 1, 2) for d in (15, 16, 17, 31, 32, 33)}


def encoder_weights(case: Case, seed: int = 0) -> list[Tensor]:
    """Weights in the op's order, float64 values that float32 holds exactly."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, mean: float = 0.0, scale: float = 0.1) -> Tensor:
        return (mean + scale * torch.randn(*shape, generator=generator)).double()

    d, f = case.hidden, case.inner
    weights = [random(ITEMS, d), random(POSITIONS, d), random(d, mean=1.0), random(d)]
    for _ in range(case.layers):
        for _ in range(4):  # query, key, value, output
            weights += [random(d, d, scale=1.0 / d**0.5), random(d)]
        weights += [random(d, mean=1.0), random(d)]
        weights += [random(f, d, scale=1.0 / d**0.5), random(f)]
        weights += [random(d, f, scale=1.0 / f**0.5), random(d)]
        weights += [random(d, mean=1.0), random(d)]
    return weights


def key_bias_indices(case: Case) -> list[int]:
    """The weights whose gradient is zero in theory."""
    return [4 + 16 * layer + 3 for layer in range(case.layers)]


def packed_batch(case: Case, seed: int = 0) -> PackedSequences:
    """A batch of these lengths; unused capacity holds ids that no table has."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(case.lengths, dtype=torch.int32)
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    offsets[1:] = lengths.cumsum(0)
    tokens = int(offsets[-1])
    items = torch.randint(1, ITEMS, (tokens,), generator=generator, dtype=torch.int32)
    items[torch.rand(tokens, generator=generator) < case.masked_anywhere] = 0
    last = (offsets[1:] - 1).long()
    items[last[torch.rand(len(last), generator=generator) < case.masked]] = 0
    skipped = torch.randint(0, 2, (tokens,), generator=generator, dtype=torch.int32)
    positions = torch.cat([torch.arange(n, dtype=torch.int32) for n in case.lengths])
    positions = (positions + skipped).clamp_max(POSITIONS - 1)
    spare = torch.full((case.spare,), 2**31 - 1, dtype=torch.int32)
    return PackedSequences(torch.cat([items, spare]), torch.cat([positions, spare]), offsets)
