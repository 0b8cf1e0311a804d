"""A score's fixed order in plain torch: each step rounds once, as a fused multiply-add does."""

import torch
from torch import Tensor

from mclrec_fast.ops.torch.fixed_order import fused_multiply_add, pair_scores


def step_by_step(left: Tensor, right: Tensor) -> Tensor:
    """The dot products [P] of the rows of two float32 [P, D] matrices, by fused multiply-adds."""
    total = left.new_zeros(len(left))
    for a, b in zip(left.t(), right.t(), strict=True):
        total = fused_multiply_add(a, b, total)
    return total


def scores_of_rows(left: Tensor, right: Tensor) -> Tensor:
    every = torch.arange(len(left))
    return pair_scores(left, right, every, every)


def test_sums_halfway_between_two_numbers() -> None:
    """Rounding to float64 and then to float32 is wrong there, and happens among these numbers."""
    powers = [1.0, 2**-24, 2**-12, -(2**-12), 2**-25, 2**-60, -(2**-60), 0.0]
    values = torch.tensor([*powers, 1 + 2**-23, 3 * 2**-13])
    generator = torch.Generator().manual_seed(1)
    left, right = (
        values[torch.randint(len(values), (4000, 6), generator=generator)] for _ in range(2)
    )
    expected = step_by_step(left, right)
    twice = left.new_zeros(len(left))
    for a, b in zip(left.t(), right.t(), strict=True):
        twice = (twice.double() + a.double() * b.double()).float()
    assert not twice.equal(expected)
    assert scores_of_rows(left, right).equal(expected)


def test_sums_below_the_normal_numbers() -> None:
    generator = torch.Generator().manual_seed(2)
    for size in (1e-15, 1e-19, 1e-22, 1e18):
        left, right = (torch.randn(500, 7, generator=generator) * size for _ in range(2))
        assert scores_of_rows(left, right).equal(step_by_step(left, right))


def test_a_sum_of_nothing_is_not_minus_zero() -> None:
    left, right = torch.zeros(1, 3), -torch.ones(1, 3)
    assert not scores_of_rows(left, right).signbit().any()
