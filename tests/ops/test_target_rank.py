"""target_rank: the full ranking of one target per row, ties counted, history in and out."""

from collections.abc import Iterator

import pytest
import torch

from mclrec_fast.ops.target_rank import target_rank
from mclrec_fast.ops.torch.fixed_order import fused_multiply_add
from tests.ops.ranking_inputs import (
    FUSED,
    VARIANTS,
    RankingCase,
    backend_of,
    brute_force_rank,
    dyadic_case,
    lists_per_row,
    random_case,
    slice_rows,
)

SHAPES = [(1, 2, 1), (1, 40, 64), (5, 17, 7), (13, 33, 65), (64, 101, 64), (7, 300, 8), (99, 9, 3)]


@pytest.fixture(params=VARIANTS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with backend_of(request.param, "target_rank") as word:
        yield word


def ranks(case: RankingCase, backend: str) -> list[list[int]]:
    return torch.stack(target_rank(*case, backend=backend), dim=1).tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_brute_force(shape: tuple[int, int, int], backend: str) -> None:
    case = dyadic_case(*shape)
    assert ranks(case, backend) == brute_force_rank(case)


def test_rounded_scores_agree_with_float64_up_to_close_pairs(backend: str) -> None:
    case = random_case(50, 700, 64)
    scores = case.h.double() @ case.item_embedding.double().t()
    scores[:, 0] = -torch.inf
    mine = scores.gather(1, case.targets.unsqueeze(1))
    got = target_rank(*case, backend=backend).unmasked
    assert torch.all(got >= (scores > mine + 1e-4).sum(1))
    assert torch.all(got <= (scores > mine - 1e-4).sum(1))


def test_constant_scorer_ranks_in_the_middle(backend: str) -> None:
    V, B = 101, 3
    h = torch.randn(B, 64)
    item_embedding = torch.randn(64).expand(V, 64).contiguous()
    targets = torch.tensor([1, 50, 100])
    got = target_rank(
        h, item_embedding, targets, *lists_per_row([[], [1, 2], [100, 100]]), backend=backend
    )
    assert got.unmasked.tolist() == [49, 49, 49]
    assert got.unmasked_ties.tolist() == [99, 99, 99]
    assert got.masked.tolist() == [49, 48, 49]
    assert got.masked_ties.tolist() == [99, 97, 99]


@pytest.mark.parametrize("D", [1, 7, 64, 65])
def test_equal_embeddings_tie_wherever_they_stand(D: int, backend: str) -> None:
    """Rounded scores: every item has one twin, far away in the table."""
    torch.manual_seed(D)
    half = torch.randn(250, D)
    item_embedding = torch.cat([torch.randn(1, D), half, half])
    case = random_case(40, 501, D)._replace(item_embedding=item_embedding)
    got = target_rank(*case, backend=backend)
    assert torch.all(got.unmasked_ties % 2 == 1)
    assert torch.all(got.unmasked_ties >= 1)


def test_padding_item_is_not_ranked(backend: str) -> None:
    h = torch.ones(1, 4)
    item_embedding = torch.tensor([[9.0], [1.0], [2.0]]).expand(3, 4).contiguous()
    got = target_rank(h, item_embedding, torch.tensor([2]), *lists_per_row([[0]]), backend=backend)
    assert [int(value) for value in got] == [0, 0, 0, 0]


def test_padding_item_may_be_anything(backend: str) -> None:
    case = dyadic_case(9, 30, 5)
    expected = brute_force_rank(case)
    case.item_embedding[0] = torch.nan
    assert ranks(case, backend) == expected


def test_bits_do_not_depend_on_batch_or_threads(backend: str) -> None:
    half = random_case(37, 400, 64)
    embedding = torch.cat([half.item_embedding, half.item_embedding[1:]])
    case = half._replace(item_embedding=embedding)
    expected = ranks(case, backend)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            assert ranks(case, backend) == expected
    finally:
        torch.set_num_threads(before)
    for step in (1, 9, 64):
        pieces = [slice_rows(case, start, start + step) for start in range(0, 37, step)]
        assert [line for piece in pieces for line in ranks(piece, backend)] == expected


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_row_is_named(value: float, backend: str) -> None:
    case = random_case(20, 50, 7)
    case.h[13, 2] = value
    case.h[17, 0] = value
    with pytest.raises(ValueError, match="row 13 "):
        target_rank(*case, backend=backend)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_non_finite_item_is_found(value: float, backend: str) -> None:
    """Row 0 is zero and row 1 small: 3e38 overflows in row 2 only."""
    case = random_case(20, 50, 7)
    case.h[0] = 0
    case.h[1] = 1e-3
    case.h[2] = 10
    case.item_embedding[49, 1] = value
    row = 2 if value == 3e38 else 0
    with pytest.raises(ValueError, match=f"row {row} "):
        target_rank(*case, backend=backend)


def test_large_finite_scores_are_ranked(backend: str) -> None:
    """Scores near the largest float are legal even where a bound on them would overflow."""
    h = torch.tensor([[1e19, 0.0]])
    item_embedding = torch.tensor([[0.0, 0.0], [1e18, 1e25], [3e18, 1e25], [2e18, 1e25]])
    got = target_rank(h, item_embedding, torch.tensor([3]), *lists_per_row([[2]]), backend=backend)
    assert [int(value) for value in got] == [1, 0, 0, 0]


def test_strided_inputs_and_empty_batch(backend: str) -> None:
    case = dyadic_case(11, 40, 12)
    strided = case._replace(
        h=case.h.t().contiguous().t(), item_embedding=case.item_embedding.repeat(1, 2)[:, :12]
    )
    assert ranks(strided, backend) == brute_force_rank(case)
    assert ranks(slice_rows(case, 4, 4), backend) == []


def test_inputs_that_require_gradient_are_detached(backend: str) -> None:
    case = dyadic_case(4, 10, 3)
    got = target_rank(case.h.requires_grad_(), *case[1:], backend=backend)
    assert not got.unmasked.requires_grad


def test_float64_is_ranked_in_float64() -> None:
    h = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    item_embedding = torch.tensor([[0, 0], [1, 1e-12], [1, 0]], dtype=torch.float64)
    got = target_rank(h, item_embedding, torch.tensor([2]), *lists_per_row([[]]))
    assert (int(got.unmasked), int(got.unmasked_ties)) == (1, 0)


def test_fused_multiply_add_rounds_once() -> None:
    """(1 + e)(1 - e) - 1 = -e^2 exactly, and a case that double rounding gets wrong."""
    e = 2.0**-12
    one = torch.tensor(1.0)
    assert float(fused_multiply_add(one + e, one - e, -one)) == -(e**2)
    # 1 + 2^-24 is a midpoint of float32; the product lies just above it, by less than float64 sees.
    a, b = torch.tensor(2.0**-24 * (1 + 2.0**-23)), torch.tensor(1 - 2.0**-24)
    assert float(fused_multiply_add(a, b, one)) == 1 + 2.0**-23
    c = torch.tensor(2.0**31)
    a, b = torch.tensor(2.0**7 + 2.0**-16), torch.tensor(1.0)
    assert float(fused_multiply_add(a, b, c)) == 2.0**31 + 2.0**8
    assert float(fused_multiply_add(-a, b, -c)) == -(2.0**31) - 2.0**8


BAD: list[tuple[dict[str, object], type[Exception], str]] = [
    ({"h": torch.zeros(4)}, ValueError, "2 dimension"),
    ({"h": torch.zeros(4, 6)}, ValueError, "share D"),
    ({"h": torch.zeros(4, 5, dtype=torch.float64)}, TypeError, "float64"),
    ({"h": torch.zeros(4, 5, dtype=torch.int64)}, TypeError, "float32 or torch.float64"),
    ({"item_embedding": torch.zeros(0, 5)}, ValueError, "no rows"),
    ({"targets": torch.tensor([1, 2, 3, 0])}, ValueError, r"targets\[3\] is 0"),
    ({"targets": torch.tensor([1, 12, 3, 1])}, ValueError, r"targets\[1\] is 12"),
    ({"targets": torch.tensor([1, 2, 3])}, ValueError, "shape"),
    ({"targets": torch.ones(4, dtype=torch.int32)}, TypeError, "int64"),
    ({"history": torch.tensor([1, 2, 12], dtype=torch.int32)}, ValueError, r"history\[2\] is 12"),
    ({"history": torch.tensor([1, -1, 2], dtype=torch.int32)}, ValueError, r"history\[1\] is -1"),
    ({"history": torch.tensor([1, 2, 3])}, TypeError, "int32"),
    ({"history": torch.ones(3, 1, dtype=torch.int32)}, ValueError, "shape"),
    ({"history_offsets": torch.tensor([0, 2, 1, 3, 3])}, ValueError, "ascend"),
    ({"history_offsets": torch.tensor([0, 1, 1, 3, 4])}, ValueError, "3 entries"),
    ({"history_offsets": torch.tensor([-1, 1, 1, 3, 3])}, ValueError, "from -1"),
    ({"history_offsets": torch.tensor([0, 1, 1, 3])}, ValueError, "shape"),
    ({"history_offsets": torch.tensor([0, 1, 1, 3, 3], dtype=torch.int32)}, TypeError, "int64"),
]


@pytest.mark.parametrize(("changed", "error", "text"), BAD)
def test_bad_input(
    changed: dict[str, object], error: type[Exception], text: str, backend: str
) -> None:
    good: dict[str, object] = {
        "backend": backend,
        "h": torch.zeros(4, 5),
        "item_embedding": torch.zeros(12, 5),
        "targets": torch.tensor([1, 2, 3, 4]),
        "history": torch.tensor([1, 2, 3], dtype=torch.int32),
        "history_offsets": torch.tensor([0, 1, 1, 3, 3]),
    }
    target_rank(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=text):
        target_rank(**{**good, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", FUSED)
def test_kernel_equals_reference_where_scores_are_rounded(variant: str) -> None:
    """The reference emulates the fused multiply-add: equal to the bit, near ties included."""
    for B, V, D in [(40, 3000, 64), (7, 900, 65), (3, 5000, 33), (100, 50, 1), (13, 95, 17)]:
        half = random_case(B, V, D)
        nudged = half.item_embedding[1:] * (1 + 1e-7)
        embedding = torch.cat([half.item_embedding, half.item_embedding[1:], nudged])
        case = half._replace(item_embedding=embedding)
        expected = ranks(case, "torch")
        with backend_of(variant, "target_rank") as word:
            assert ranks(case, word) == expected


def test_float64_kernel(backend: str) -> None:
    case = dyadic_case(30, 70, 9)
    double = case._replace(h=case.h.double(), item_embedding=case.item_embedding.double())
    assert ranks(double, backend) == brute_force_rank(case)


def test_opcheck() -> None:
    with backend_of("native-portable", "target_rank"):
        for case in (dyadic_case(5, 20, 7), random_case(1, 30, 8)):
            torch.library.opcheck(torch.ops.mclrec_fast.target_rank, tuple(case))


def test_low_level_op_refuses_what_would_crash_it() -> None:
    with backend_of("native-portable", "target_rank"):
        case = dyadic_case(5, 20, 7)
        with pytest.raises(ValueError, match="int64"):
            torch.ops.mclrec_fast.target_rank(*case._replace(targets=case.targets.int()))
        with pytest.raises(ValueError, match="shape"):
            torch.ops.mclrec_fast.target_rank(*case._replace(h=case.h[:, :6]))
