"""top_k: the k best items of each row, exclusions left out, ties by the lower item."""

from collections.abc import Iterator

import pytest
import torch

from mclrec_fast.ops.target_rank import target_rank
from mclrec_fast.ops.top_k import top_k
from tests.ops.ranking_inputs import (
    FUSED,
    VARIANTS,
    RankingCase,
    backend_of,
    brute_force_top_k,
    dyadic_case,
    lists_per_row,
    random_case,
    slice_rows,
)

SHAPES = [(1, 2, 1), (1, 40, 64), (5, 17, 7), (13, 33, 65), (64, 101, 64), (7, 300, 8), (99, 9, 3)]


@pytest.fixture(params=VARIANTS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with backend_of(request.param, "top_k") as word:
        yield word


def best(case: RankingCase, k: int, backend: str) -> tuple[list[list[float]], list[list[int]]]:
    scores, items = top_k(
        case.h, case.item_embedding, k, case.history, case.history_offsets, backend=backend
    )
    return scores.tolist(), items.tolist()


@pytest.mark.parametrize("k", [1, 5, 20, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_brute_force(shape: tuple[int, int, int], k: int, backend: str) -> None:
    case = dyadic_case(*shape)
    assert best(case, k, backend) == brute_force_top_k(case, k)


def test_every_item_equal_gives_the_lowest_items(backend: str) -> None:
    h, row = torch.randn(2, 64), torch.randn(64)
    lists = lists_per_row([[3, 3, 0], []])
    _, items = top_k(h, row.expand(200, 64).contiguous(), 5, *lists, backend=backend)
    assert items.tolist() == [[1, 2, 4, 5, 6], [1, 2, 3, 4, 5]]


def test_agrees_with_target_rank(backend: str) -> None:
    """Rounded scores without ties: the item at place r of the list has rank r."""
    case = random_case(30, 500, 64)
    _, items = top_k(case.h, case.item_embedding, 12, *lists_per_row([[]] * 30), backend=backend)
    for place in (0, 5, 11):
        got = target_rank(*case._replace(targets=items[:, place]), backend=backend)
        assert got.unmasked.tolist() == [place] * 30
        assert got.unmasked_ties.tolist() == [0] * 30


def test_bits_do_not_depend_on_batch_or_threads(backend: str) -> None:
    half = random_case(37, 400, 64)
    embedding = torch.cat([half.item_embedding, half.item_embedding[1:]])
    case = half._replace(item_embedding=embedding)
    expected = best(case, 11, backend)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            assert best(case, 11, backend) == expected
    finally:
        torch.set_num_threads(before)
    for step in (1, 9, 64):
        pieces = [best(slice_rows(case, i, i + step), 11, backend) for i in range(0, 37, step)]
        assert [line for piece in pieces for line in piece[0]] == expected[0]
        assert [line for piece in pieces for line in piece[1]] == expected[1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_row_is_named(value: float, backend: str) -> None:
    case = random_case(20, 50, 7)
    case.h[13, 2] = value
    case.h[17, 0] = value
    with pytest.raises(ValueError, match="row 13 "):
        best(case, 3, backend)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_non_finite_item_is_found(value: float, backend: str) -> None:
    case = random_case(20, 50, 7)
    case.h[0] = 0
    case.h[1] = 1e-3
    case.h[2] = 10
    case.item_embedding[49, 1] = value
    row = 2 if value == 3e38 else 0
    with pytest.raises(ValueError, match=f"row {row} "):
        best(case, 3, backend)


def test_edges(backend: str) -> None:
    case = dyadic_case(11, 40, 12)
    assert best(case, 0, backend) == ([[]] * 11, [[]] * 11)
    assert best(slice_rows(case, 4, 4), 3, backend) == ([], [])
    strided = case._replace(
        h=case.h.t().contiguous().t(), item_embedding=case.item_embedding.repeat(1, 2)[:, :12]
    )
    assert best(strided, 5, backend) == brute_force_top_k(case, 5)
    padding_only = case._replace(item_embedding=case.item_embedding[:1], history=case.history * 0)
    assert best(padding_only, 2, backend)[1] == [[0, 0]] * 11
    case.h.requires_grad_()
    scores, _ = top_k(case.h, case.item_embedding, 2, *case[3:], backend=backend)
    assert not scores.requires_grad


BAD: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"h": torch.zeros(4, 6)}, ValueError, "share D"),
    ({"h": torch.zeros(4, 5, dtype=torch.float16)}, TypeError, "float32 or torch.float64"),
    ({"k": -1}, ValueError, "negative"),
    ({"exclude": torch.tensor([1, 2, 12], dtype=torch.int32)}, ValueError, r"exclude\[2\] is 12"),
    ({"exclude": torch.tensor([1, 2, 3])}, TypeError, "int32"),
    ({"exclude_offsets": torch.tensor([0, 2, 1, 3, 3])}, ValueError, "ascend"),
    ({"exclude_offsets": torch.tensor([0, 1, 1, 3, 4])}, ValueError, "3 entries"),
]


@pytest.mark.parametrize(("changed", "error", "text"), BAD)
def test_bad_input(
    changed: dict[str, object], error: type[Exception], text: str, backend: str
) -> None:
    good: dict[str, object] = {
        "backend": backend,
        "h": torch.zeros(4, 5),
        "item_embedding": torch.zeros(12, 5),
        "k": 3,
        "exclude": torch.tensor([1, 2, 3], dtype=torch.int32),
        "exclude_offsets": torch.tensor([0, 1, 1, 3, 3]),
    }
    top_k(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=text):
        top_k(**{**good, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", FUSED)
def test_kernel_equals_reference_where_scores_are_rounded(variant: str) -> None:
    """The reference emulates the fused multiply-add: equal to the bit, ties included."""
    for B, V, D in [(40, 3000, 64), (7, 900, 65), (3, 5000, 33), (100, 50, 1), (13, 95, 17)]:
        half = random_case(B, V, D)
        embedding = torch.cat([half.item_embedding, half.item_embedding[1:]])
        case = half._replace(item_embedding=embedding)
        expected = best(case, 30, "torch")
        with backend_of(variant, "top_k") as word:
            assert best(case, 30, word) == expected


def test_few_rows_split_the_items(backend: str) -> None:
    """One row over many items: the threads share the items, the answer is the same."""
    case = dyadic_case(2, 9000, 5)
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            assert best(case, 50, backend) == brute_force_top_k(case, 50)
    finally:
        torch.set_num_threads(before)


def test_float64_kernel(backend: str) -> None:
    case = dyadic_case(30, 70, 9)
    double = case._replace(h=case.h.double(), item_embedding=case.item_embedding.double())
    assert best(double, 7, backend) == brute_force_top_k(case, 7)


def test_opcheck() -> None:
    with backend_of("native-portable", "top_k"):
        for case in (dyadic_case(5, 20, 7), random_case(1, 30, 8)):
            arguments = (case.h, case.item_embedding, 3, case.history, case.history_offsets)
            torch.library.opcheck(torch.ops.mclrec_fast.top_k, arguments)
