"""target_rank and top_k: oracles by counting and sorting, ties, rows on their own, infinities.

What holds for every op (equality with the reference among it) is in tests/conformance.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from mclrec_fast.ops import target_rank, top_k

from ..conformance.ranking import Shape, inputs, lists_per_row

SHAPES = [(1, 2, 1), (1, 40, 64), (5, 17, 7), (13, 33, 65), (64, 101, 64), (7, 300, 8), (99, 9, 3)]
Case = dict[str, Tensor]


def exact(*shape: int) -> Case:
    """A case whose scores are exact in float32, with many ties."""
    case = inputs(Shape(*shape))
    return case | {name: case[name].float() for name in ("h", "item_embedding")}


def rounded(b: int, v: int, d: int) -> Case:
    """A case of rounded scores without ties."""
    generator = torch.Generator().manual_seed(0)
    h, table = (torch.randn(n, d, generator=generator) for n in (b, v))
    return exact(b, v, d) | {"h": h, "item_embedding": table}


def ranks(case: Case, backend: str) -> list[list[int]]:
    return torch.stack(target_rank(**case, backend=backend), dim=1).tolist()


def best(case: Case, k: int, backend: str) -> tuple[list[Any], list[Any]]:
    lists = case["history"], case["history_offsets"]
    scores, items = top_k(case["h"], case["item_embedding"], k, *lists, backend=backend)
    assert scores.dtype == case["h"].dtype and items.dtype == torch.int64
    return scores.tolist(), items.tolist()


def rows_of(case: Case, start: int, stop: int) -> Case:
    """The same case for some rows only; the history is not cut, only its offsets."""
    return case | {
        "h": case["h"][start:stop],
        "targets": case["targets"][start:stop],
        "history_offsets": case["history_offsets"][start : stop + 1],
    }


def seen(case: Case, row: int) -> set[int]:
    first, last = case["history_offsets"][row : row + 2].tolist()
    return set(case["history"][first:last].tolist())


def counted_rank(case: Case) -> list[list[int]]:
    """[rank, ties, masked rank, masked ties] of each row, by counting float64 scores."""
    result = []
    scores = (case["h"].double() @ case["item_embedding"].double().t()).tolist()
    for row, target in enumerate(case["targets"].tolist()):
        line, mine = [], scores[row][target]
        for removed in (set(), seen(case, row)):
            others = set(range(1, len(scores[row]))) - {target} - removed
            ties = sum(scores[row][item] == mine for item in others)
            line += [sum(scores[row][item] > mine for item in others) + ties // 2, ties]
        result.append(line)
    return result


def sorted_best(case: Case, k: int) -> tuple[list[Any], list[Any]]:
    """Scores and items of the k best of each row, from float64 scores, by sorting."""
    all_scores, all_items = [], []
    scores = (case["h"].double() @ case["item_embedding"].double().t()).tolist()
    for row, line in enumerate(scores):
        allowed = set(range(1, len(line))) - seen(case, row)
        ranked = sorted((-line[item], item) for item in allowed)[:k]
        missing = k - len(ranked)
        all_scores.append([-score for score, _ in ranked] + [-float("inf")] * missing)
        all_items.append([item for _, item in ranked] + [0] * missing)
    return all_scores, all_items


@pytest.mark.parametrize("shape", SHAPES)
def test_rank_equals_counting(shape: tuple[int, int, int], backend: str) -> None:
    case = exact(*shape)
    assert ranks(case, backend) == counted_rank(case)


@pytest.mark.parametrize("k", [1, 5, 20, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_top_k_equals_sorting(shape: tuple[int, int, int], k: int, backend: str) -> None:
    case = exact(*shape)
    assert best(case, k, backend) == sorted_best(case, k)


def test_rounded_scores_agree_with_float64_up_to_close_pairs(backend: str) -> None:
    case = rounded(50, 700, 64)
    scores = case["h"].double() @ case["item_embedding"].double().t()
    scores[:, 0] = -torch.inf
    mine = scores.gather(1, case["targets"].unsqueeze(1))
    got = target_rank(**case, backend=backend).unmasked
    assert torch.all(got >= (scores > mine + 1e-4).sum(1))
    assert torch.all(got <= (scores > mine - 1e-4).sum(1))


def test_constant_scorer_ranks_in_the_middle(backend: str) -> None:
    h, table = torch.randn(3, 64), torch.randn(64).expand(101, 64).contiguous()
    lists = lists_per_row([[], [1, 2], [100, 100]])
    got = target_rank(h, table, torch.tensor([1, 50, 100]), *lists, backend=backend)
    assert got.unmasked.tolist() == [49, 49, 49]
    assert got.unmasked_ties.tolist() == [99, 99, 99]
    assert got.masked.tolist() == [49, 48, 49]
    assert got.masked_ties.tolist() == [99, 97, 99]


def test_every_item_equal_gives_the_lowest_items(backend: str) -> None:
    h, table = torch.randn(2, 64), torch.randn(64).expand(200, 64).contiguous()
    _, items = top_k(h, table, 5, *lists_per_row([[3, 3, 0], []]), backend=backend)
    assert items.tolist() == [[1, 2, 4, 5, 6], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize("width", [1, 7, 64, 65])
def test_equal_embeddings_tie_wherever_they_stand(width: int, backend: str) -> None:
    """Rounded scores: every item has one twin, far away in the table."""
    case = rounded(40, 501, width)
    half = case["item_embedding"][1:251]
    case["item_embedding"] = torch.cat([case["item_embedding"][:1], half, half])
    got = target_rank(**case, backend=backend)
    assert torch.all(got.unmasked_ties % 2 == 1)


def test_top_k_agrees_with_target_rank(backend: str) -> None:
    """The item at place r of the list has rank r."""
    none = lists_per_row([[]] * 30)
    case = rounded(30, 500, 64) | {"history": none[0], "history_offsets": none[1]}
    items = torch.tensor(best(case, 12, backend)[1])
    for place in (0, 5, 11):
        got = target_rank(**case | {"targets": items[:, place]}, backend=backend)
        assert got.unmasked.tolist() == [place] * 30
        assert got.unmasked_ties.tolist() == [0] * 30


def test_padding_item_is_not_ranked(backend: str) -> None:
    table = torch.tensor([[9.0], [1.0], [2.0]]).expand(3, 4).contiguous()
    lists = lists_per_row([[0]])
    got = target_rank(torch.ones(1, 4), table, torch.tensor([2]), *lists, backend=backend)
    assert [int(value) for value in got] == [0, 0, 0, 0]
    only_padding = exact(11, 40, 12)
    only_padding["item_embedding"] = only_padding["item_embedding"][:1]
    only_padding["history"] = only_padding["history"] * 0
    assert best(only_padding, 2, backend)[1] == [[0, 0]] * 11


def test_padding_item_may_be_anything(backend: str) -> None:
    case = exact(9, 30, 5)
    expected = counted_rank(case), sorted_best(case, 4)
    case["item_embedding"][0] = torch.nan
    assert (ranks(case, backend), best(case, 4, backend)) == expected


def test_a_row_does_not_depend_on_its_neighbours(backend: str) -> None:
    case = rounded(37, 400, 64)
    case["item_embedding"] = torch.cat([case["item_embedding"], case["item_embedding"][1:]])
    expected, (scores, items) = ranks(case, backend), best(case, 11, backend)
    for step in (1, 9, 64):
        pieces = [rows_of(case, start, start + step) for start in range(0, 37, step)]
        assert [line for piece in pieces for line in ranks(piece, backend)] == expected
        found = [best(piece, 11, backend) for piece in pieces]
        assert [line for piece in found for line in piece[0]] == scores
        assert [line for piece in found for line in piece[1]] == items


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_is_named(value: float, backend: str) -> None:
    case = rounded(20, 50, 7)
    case["h"][13, 2] = case["h"][17, 0] = value
    for call in (lambda: ranks(case, backend), lambda: best(case, 3, backend)):
        with pytest.raises(ValueError, match="row 13 "):
            call()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_an_item_that_is_not_finite_is_found(value: float, backend: str) -> None:
    """Row 0 is zero and row 1 small: 3e38 overflows in row 2 only."""
    case = rounded(20, 50, 7)
    for row, size in enumerate((0.0, 1e-3, 10.0)):
        case["h"][row] = size
    case["item_embedding"][49, 1] = value
    row = 2 if value == 3e38 else 0
    for call in (lambda: ranks(case, backend), lambda: best(case, 3, backend)):
        with pytest.raises(ValueError, match=f"row {row} "):
            call()


def test_large_finite_scores_are_ranked(backend: str) -> None:
    """Scores near the largest float are legal even where a bound on them would overflow."""
    h = torch.tensor([[1e19, 0.0]])
    table = torch.tensor([[0.0, 0.0], [1e18, 1e25], [3e18, 1e25], [2e18, 1e25]])
    got = target_rank(h, table, torch.tensor([3]), *lists_per_row([[2]]), backend=backend)
    assert [int(value) for value in got] == [1, 0, 0, 0]


def test_float64_is_ranked_in_float64(backend: str) -> None:
    h = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    table = torch.tensor([[0, 0], [1, 1e-12], [1, 0]], dtype=torch.float64)
    got = target_rank(h, table, torch.tensor([2]), *lists_per_row([[]]), backend=backend)
    assert (int(got.unmasked), int(got.unmasked_ties)) == (1, 0)


def test_few_rows_split_the_items(backend: str) -> None:
    """Few rows over many items: the threads share the items, the answer is the same."""
    case = exact(2, 9000, 5)
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            assert best(case, 50, backend) == sorted_best(case, 50)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("kernel")
def test_the_kernels_check_what_would_crash_them() -> None:
    case = exact(5, 20, 7)
    for change, message in (
        ({"targets": case["targets"].int()}, "int64"),
        ({"h": case["h"][:, :6]}, "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            torch.ops.mclrec_fast.target_rank(*(case | change).values())


MISSING = [[199], [1], [32, 33], [34, 64, 65, 97], [1, 2, 100, 198], [*range(150, 199)]]


@pytest.mark.parametrize("missing", [*MISSING, list(range(2, 200))])
def test_what_is_no_candidate_is_not_looked_at(missing: list[int], backend: str) -> None:
    """Whether few items are missing or most: the vectors of the others may be anything."""
    case = rounded(20, 200, 7)
    case["item_embedding"][missing] = torch.nan
    left = torch.tensor([i for i in range(1, 200) if i not in missing], dtype=torch.int32)
    lists = lists_per_row([[]] * 20)
    scores, items = top_k(
        case["h"], case["item_embedding"], 200, *lists, candidates=left, backend=backend
    )
    assert bool(scores[:, : len(left)].isfinite().all())
    assert all(sorted(row[: len(left)]) == left.tolist() for row in items.tolist())
    case["item_embedding"][int(left[0])] = torch.nan
    with pytest.raises(ValueError, match="row 0 "):
        top_k(case["h"], case["item_embedding"], 5, *lists, candidates=left, backend=backend)
