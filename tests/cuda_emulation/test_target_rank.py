"""Emulated CUDA `target_rank`: ranks equal the reference's, ties included.

This is emulation on a CPU, not a GPU.
"""

import pytest
import torch

from mclrec_fast.ops.target_rank import target_rank

from ..ops.ranking_inputs import RankingCase, brute_force_rank, dyadic_case, random_case
from .ops import SCHEDULES, emulated

SHAPES = [(1, 2, 1), (1, 40, 64), (5, 17, 7), (13, 33, 65), (66, 129, 64), (7, 700, 8), (3, 9, 150)]


def ranks(case: RankingCase, backend: str) -> list[list[int]]:
    return torch.stack(target_rank(*case, backend=backend), dim=1).tolist()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_brute_force(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], schedule: str
) -> None:
    case = dyadic_case(*shape)
    with emulated(monkeypatch, schedule):
        assert ranks(case, "native") == brute_force_rank(case)


@pytest.mark.parametrize("D", [1, 7, 64, 65])
def test_rounded_scores_rank_and_tie_as_in_the_reference(
    monkeypatch: pytest.MonkeyPatch, D: int
) -> None:
    """Every item has a twin far away in the table; a score is the same chain of FMAs everywhere."""
    generator = torch.Generator().manual_seed(D)
    half = torch.randn(150, D, generator=generator)
    table = torch.cat([torch.randn(1, D, generator=generator), half, half])
    case = random_case(40, 301, D)._replace(item_embedding=table)
    with emulated(monkeypatch, "random", tf32=True):  # TF32 must not touch ranking
        native = ranks(case, "native")
    assert native == ranks(case, "torch")
    assert all(row[1] % 2 == 1 for row in native)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_score_that_is_not_finite_is_an_error(
    monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    case = random_case(5, 80, 8)
    case.h[3, 2] = bad
    with emulated(monkeypatch), pytest.raises(ValueError, match="row 3"):
        target_rank(*case, backend="native")
