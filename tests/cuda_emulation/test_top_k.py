"""Emulated CUDA `top_k`: items and scores equal brute force and the reference, ties included.

This is emulation on a CPU, not a GPU.
"""

import pytest
import torch

from mclrec_fast.ops.target_rank import target_rank
from mclrec_fast.ops.top_k import top_k

from ..ops.ranking_inputs import (
    RankingCase,
    brute_force_top_k,
    dyadic_case,
    lists_per_row,
    random_case,
    slice_rows,
)
from .ops import SCHEDULES, emulated

SHAPES = [(1, 2, 1), (1, 40, 64), (5, 17, 7), (13, 33, 65), (66, 129, 64), (7, 700, 8), (3, 9, 150)]


def best(case: RankingCase, k: int, backend: str = "native") -> tuple[object, object]:
    scores, items = top_k(
        case.h, case.item_embedding, k, case.history, case.history_offsets, backend=backend
    )
    assert scores.dtype == case.h.dtype and items.dtype == torch.int64
    return scores.tolist(), items.tolist()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("k", [1, 5, 20, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_brute_force(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], k: int, schedule: str
) -> None:
    case = dyadic_case(*shape)
    with emulated(monkeypatch, schedule):
        assert best(case, k) == brute_force_top_k(case, k)


@pytest.mark.parametrize("D", [1, 7, 64, 65])
def test_rounded_scores_are_ordered_as_in_the_reference(
    monkeypatch: pytest.MonkeyPatch, D: int
) -> None:
    """Every item has a twin far away in the table; a score is the same chain of FMAs everywhere."""
    generator = torch.Generator().manual_seed(D)
    half = torch.randn(150, D, generator=generator)
    table = torch.cat([torch.randn(1, D, generator=generator), half, half])
    case = random_case(40, 301, D)._replace(item_embedding=table)
    with emulated(monkeypatch, "random", tf32=True):  # TF32 must not touch ranking
        native = best(case, 11)
    assert native == best(case, 11, "torch")


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_scores_that_come_sorted(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """The lists take in nothing after their first items, or every item of the catalogue."""
    values = torch.arange(200.0).flip(0) if order == "descending" else torch.arange(200.0)
    case = RankingCase(
        torch.ones(3, 1), values[:, None], torch.ones(3), *lists_per_row([[], [199, 1], [7] * 9])
    )
    with emulated(monkeypatch, "random"):
        assert best(case, 6) == brute_force_top_k(case, 6)


def test_every_item_equal_gives_the_lowest_items(monkeypatch: pytest.MonkeyPatch) -> None:
    h, row = torch.randn(2, 64), torch.randn(64)
    lists = lists_per_row([[3, 3, 0], []])
    table = row.expand(200, 64).contiguous()
    for schedule in SCHEDULES:
        with emulated(monkeypatch, schedule):
            _, items = top_k(h, table, 5, *lists, backend="native")
        assert items.tolist() == [[1, 2, 4, 5, 6], [1, 2, 3, 4, 5]]


def test_agrees_with_target_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded scores without ties: the item at place r of the list has rank r."""
    case = random_case(30, 500, 64)
    none = lists_per_row([[]] * 30)
    with emulated(monkeypatch):
        _, items = top_k(case.h, case.item_embedding, 12, *none, backend="native")
        for place in (0, 5, 11):
            targets = items[:, place].contiguous()
            ranks = target_rank(*case._replace(targets=targets), backend="native")
            assert ranks.unmasked.tolist() == [place] * 30


def test_a_row_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(70, 400, 16)
    with emulated(monkeypatch):
        expected = best(case, 7)
        pieces = [best(slice_rows(case, i, i + 35), 7) for i in (0, 35)]
    assert expected == tuple(a + b for a, b in zip(*pieces, strict=True))  # type: ignore[operator]


def test_more_than_half_of_the_table_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dyadic_case(5, 150, 4)
    lists = lists_per_row([list(range(149 - 30 * row)) * 2 for row in range(5)])
    case = case._replace(history=lists[0], history_offsets=lists[1])
    with emulated(monkeypatch, "random"):
        assert best(case, 9) == brute_force_top_k(case, 9)


def test_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dyadic_case(11, 40, 12)
    with emulated(monkeypatch):
        assert best(case, 0) == ([[]] * 11, [[]] * 11)
        assert best(slice_rows(case, 4, 4), 3) == ([], [])
        strided = case._replace(
            h=case.h.t().contiguous().t(), item_embedding=case.item_embedding.repeat(1, 2)[:, :12]
        )
        assert best(strided, 5) == brute_force_top_k(case, 5)
        padding_only = case._replace(
            item_embedding=case.item_embedding[:1], history=case.history * 0
        )
        assert best(padding_only, 2)[1] == [[0, 0]] * 11


def test_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dyadic_case(30, 70, 9)
    double = case._replace(h=case.h.double(), item_embedding=case.item_embedding.double())
    with emulated(monkeypatch, "random"):
        assert best(double, 7) == brute_force_top_k(case, 7)


def test_wrong_exclusions_stay_inside_their_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie on the device, where the host does not look at them."""
    case = dyadic_case(3, 40, 4)
    exclude = torch.tensor([-9, 10**9, 5], dtype=torch.int32)
    offsets = torch.tensor([-4, 10**12, 2, 3])
    with emulated(monkeypatch):
        _, items = top_k(case.h, case.item_embedding, 40, exclude, offsets, backend="native")
    assert [5 in row for row in items.tolist()] == [False, True, False]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_score_that_is_not_finite_is_an_error(
    monkeypatch: pytest.MonkeyPatch, bad: float, schedule: str
) -> None:
    case = random_case(5, 180, 8)
    case.h[3, 2] = bad
    with emulated(monkeypatch, schedule), pytest.raises(ValueError, match="row 3"):
        best(case, 4)
    case = random_case(5, 180, 8)
    case.item_embedding[179, 0] = bad  # all rows
    with emulated(monkeypatch, schedule), pytest.raises(ValueError, match="row 0"):
        best(case, 4)
