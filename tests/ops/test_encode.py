"""encode: the kernel against the reference, value and gradients, on every instruction set."""

import statistics
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import PackedSequences, encode
from mclrec_fast.ops.encode_weights import EMBEDDING_SHAPES, LAYER_SHAPES

from .accuracy import assert_close64, largest
from .encoder_inputs import (
    CASES,
    ITEMS,
    MIXED,
    POSITIONS,
    Case,
    encoder_weights,
    key_bias_indices,
    packed_batch,
)

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("encode"), reason=f"no kernel: {_native.why_not()}"
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]
NUMBER = torch.tensor(4)  # of an update, as the operators take it
DROPOUTS = {"no dropout": (0.0, 0.0), "half": (0.5, 0.5), "other": (0.2, 0.3), "mixed": (0.5, 0.1)}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def options(case: Case, dropout: str = "no dropout", **changes: Any) -> dict[str, Any]:
    hidden, attention = DROPOUTS[dropout]
    return {
        "heads": case.heads,
        "hidden_dropout": hidden,
        "attention_dropout": attention,
        "eps": case.eps,
        "seed": 2**63 + 12345,
        "update": 7,
    } | changes


def run(
    case: Case,
    dropout: str,
    backend: str,
    dtype: torch.dtype,
    variant: int = 0,
    device: str = "cpu",
    **changes: Any,
) -> tuple[Tensor, ...]:
    """The representations and the gradient of every weight, computed on a device."""
    weights = [w.to(device, dtype).requires_grad_() for w in encoder_weights(case, variant)]
    batch = PackedSequences(*(x.to(device) for x in packed_batch(case, variant)))
    h = encode(batch, weights, backend=backend, **options(case, dropout, **changes))
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(h.shape, generator=generator).to(device, dtype)
    return tuple(x.detach().cpu() for x in (h, *torch.autograd.grad(h, weights, grad)))


@needs_kernel
@pytest.mark.parametrize("dropout", DROPOUTS)
@pytest.mark.parametrize("name", CASES)
def test_float64(name: str, dropout: str, isa: str) -> None:
    case = CASES[name]
    native = run(case, dropout, "native", torch.float64)
    assert_close64(native, run(case, dropout, "torch", torch.float64), 1e-11)


def mean_square(results: list[tuple[Tensor, ...]]) -> list[float]:
    """Of each result, the median over all variants."""
    return [
        statistics.median(float(x.double().square().mean()) for x in variants)
        for variants in zip(*results, strict=True)
    ]


def compare32(case: Case, dropout: str, device: str = "cpu", *, zeros_cancel: bool = False) -> None:
    """The float32 kernel errs at most twice as much as the reference in float32 on that device.

    ``zeros_cancel``: gradients that are exactly 0 (a query's, where it has one key only) are
    differences of two dot products of D numbers in this kernel, each of which rounds by about
    sqrt(D) units; they are measured by the largest gradient.
    """
    # Root mean square errors, because the largest of many small ones is chance; several variants
    # of small cases, because the errors of a row have one common factor, and a row of few elements
    # may have nearly no variance, which magnifies any rounding.
    truth, native, torch32 = [], [], []
    for variant in range(6 if len(case.lengths) < 10 or case.hidden < 64 else 2):
        truth.append(run(case, dropout, "torch", torch.float64, variant))
        for backend, errors in (("native", native), ("torch", torch32)):
            results = run(case, dropout, backend, torch.float32, variant, device)
            assert all(x.dtype == torch.float32 for x in results)
            errors.append(tuple(x.double() - y for x, y in zip(results, truth[-1], strict=True)))
    unit = torch.finfo(torch.float32).eps
    zero = [1 + index for index in key_bias_indices(case)]
    squares = [mean_square(x) for x in (native, torch32, truth)]
    for index, (n, t, x) in enumerate(zip(*squares, strict=True)):
        # The key bias' gradient is zero in theory, the rounding of a sum over all tokens of what
        # the key weight's gradient also sums.
        size = squares[2][index - 1] * sum(case.lengths) if index in zero else x
        if zeros_cancel and t == x == 0.0:
            size = case.hidden * max(squares[2][1:])
        allowed = 2 * t**0.5 + unit * size**0.5
        assert n**0.5 <= allowed, f"result {index}: error {n**0.5:.3e} > {allowed:.3e}"


@needs_kernel
@pytest.mark.parametrize("dropout", ["no dropout", "half"])
@pytest.mark.parametrize("name", [n for n in CASES if min(CASES[n].hidden, CASES[n].inner) > 1])
def test_float32(name: str, dropout: str, isa: str) -> None:
    compare32(CASES[name], dropout)


@needs_kernel
@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize("update", [0, 2**32 - 1])
def test_every_seed_and_update(seed: int, update: int) -> None:
    case = Case(MIXED, 16, 32)
    changes = {"seed": seed, "update": update}
    native = run(case, "other", "native", torch.float64, **changes)
    assert_close64(native, run(case, "other", "torch", torch.float64, **changes), 1e-11)


@needs_kernel
@pytest.mark.parametrize("p", [1e-9, 1e-5, 0.4999, 0.9, 0.99999, 1 - 1e-9])
def test_extreme_dropout(p: float, isa: str) -> None:
    case = Case(MIXED, 16, 32)
    changes = {"hidden_dropout": p, "attention_dropout": p}
    native = run(case, "no dropout", "native", torch.float64, **changes)
    truth = run(case, "no dropout", "torch", torch.float64, **changes)
    for n, t in zip(native, truth, strict=True):
        assert largest(n - t) <= 1e-11 * max(largest(t), 1.0)


@needs_kernel
@pytest.mark.parametrize("dropout", DROPOUTS)
def test_value_without_gradient_is_the_same(dropout: str, isa: str) -> None:
    case = CASES["mixed"]
    weights = encoder_weights(case)
    with torch.no_grad():
        h = encode(packed_batch(case), weights, backend="native", **options(case, dropout))
    assert torch.equal(h, run(case, dropout, "native", torch.float64)[0])


@needs_kernel
@pytest.mark.parametrize("dropout", ["half", "other"])
@pytest.mark.parametrize("name", ["many chunks", "a long row among short ones", "one row"])
def test_bits_do_not_depend_on_threads(name: str, dropout: str, isa: str, threads: None) -> None:
    results = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        results.append(run(CASES[name], dropout, "native", torch.float32))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@needs_kernel
def test_what_one_set_kept_is_not_read_as_the_layout_of_another() -> None:
    if "avx512" not in _native.usable_isa():
        pytest.skip("avx512 cannot run here")
    weights = [w.requires_grad_() for w in encoder_weights(CASES["mixed"])]
    with _native.use_isa("avx512"):
        h = encode(packed_batch(CASES["mixed"]), weights, **options(CASES["mixed"]))
    with _native.use_isa("avx2"), pytest.raises(ValueError, match="saved must have shape"):
        h.sum().backward()


@needs_kernel
def test_rows_do_not_depend_on_each_other() -> None:
    case = Case(MIXED, 16, 32)
    batch, weights = packed_batch(case), encoder_weights(case)
    whole = encode(batch, weights, backend="native", **options(case))
    parts = [
        encode(batch.rows(s, s + 1), weights, backend="native", **options(case))
        for s in range(len(MIXED))
    ]
    assert_close64((torch.cat(parts),), (whole,), 1e-13)


@needs_kernel
def test_python_threads_do_not_disturb_each_other() -> None:
    names = ["mixed", "many chunks", "lengths all equal", "width 24, one head"]
    expected = {name: run(CASES[name], "half", "native", torch.float32) for name in names}
    wrong = []

    def work(name: str) -> None:
        for _ in range(10):
            result = run(CASES[name], "half", "native", torch.float32)
            if not all(map(torch.equal, result, expected[name])):
                wrong.append(name)

    workers = [threading.Thread(target=work, args=(name,)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@needs_kernel
def test_no_sequences() -> None:
    case = Case([2], 16, 32)
    weights = [w.requires_grad_() for w in encoder_weights(case)]
    empty = PackedSequences(*(torch.zeros(n, dtype=torch.int32) for n in (0, 0, 1)))
    h = encode(empty, weights, backend="native", **options(case))
    assert h.shape == (0, 16)
    gradients = torch.autograd.grad(h, weights, torch.zeros(0, 16, dtype=torch.float64))
    assert all(torch.equal(g, torch.zeros_like(w)) for g, w in zip(gradients, weights, strict=True))


@needs_kernel
@pytest.mark.parametrize("wanted", [0, 1, 3, 4, 7, 16, 35])
def test_gradient_of_one_weight(wanted: int) -> None:
    case = CASES["mixed"]
    weights = encoder_weights(case)
    weights[wanted].requires_grad_()
    h = encode(packed_batch(case), weights, backend="native", **options(case))
    grad = torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).double()
    (gradient,) = torch.autograd.grad(h, weights[wanted], grad)
    assert torch.equal(gradient, run(case, "no dropout", "native", torch.float64)[1 + wanted])


@needs_kernel
def test_non_contiguous_input() -> None:
    case = CASES["mixed"]
    batch = packed_batch(case)
    expected = run(case, "half", "native", torch.float64)
    weights = [
        torch.stack([w, w], -1)[..., 0].requires_grad_()
        if w.dim() == 1
        else w.t().contiguous().t().requires_grad_()
        for w in encoder_weights(case)
    ]
    assert not any(w.is_contiguous() for w in weights)
    strided = PackedSequences(*(torch.stack([x, x], -1)[:, 0] for x in batch))
    h = encode(strided, weights, backend="native", **options(case, "half"))
    grad = torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).double()
    strided_grad = torch.stack([grad, grad], -1)[..., 0]
    results = (h, *torch.autograd.grad(h, weights, strided_grad))
    assert all(map(torch.equal, results, expected))


@needs_kernel
@pytest.mark.parametrize("dropout", ["no dropout", "half"])
def test_gradcheck(dropout: str, isa: str) -> None:
    case = Case([3, 1, 4], 4, 6, 2, 2, masked=0.3)
    batch = packed_batch(case)
    weights = [w.requires_grad_() for w in encoder_weights(case)]
    weights[0] = weights[0][:8].detach()
    weights[1] = weights[1][:8].detach().requires_grad_()
    items = PackedSequences(batch.items % 8, batch.positions, batch.offsets)
    changes = {"eps": 1e-5}
    torch.autograd.gradcheck(
        lambda *w: encode(items, w, backend="native", **options(case, dropout, **changes)),
        weights,
    )


@needs_kernel
@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize(
    "name", ["one row", "width 72, heads of 18", "spare capacity", "one layer"]
)
def test_opcheck(name: str, save: bool) -> None:
    case = CASES[name]
    weights = [w.requires_grad_(save) for w in encoder_weights(case)]
    arguments = (*packed_batch(case), weights, case.heads, 0.5, 0.2, 1e-12, 3, NUMBER, save)
    torch.library.opcheck(torch.ops.mclrec_fast.encode.default, arguments)
    if save:
        with torch.no_grad():
            h, saved = torch.ops.mclrec_fast.encode(*arguments)
        weights = [w.detach() for w in weights]
        torch.library.opcheck(
            torch.ops.mclrec_fast.encode_backward.default,
            (h, *packed_batch(case), weights, saved, *arguments[4:-1]),
        )


@needs_kernel
@pytest.mark.parametrize("name", ["one row", "mixed", "width 72, heads of 18", "spare capacity"])
def test_backward_add_adds_to_the_item_gradient(name: str) -> None:
    case = CASES[name]
    batch, weights = packed_batch(case), encoder_weights(case)
    options = (case.heads, 0.5, 0.2, 1e-12, 3, NUMBER)
    h, saved = torch.ops.mclrec_fast.encode(*batch, weights, *options, True)
    arguments = (h, *batch, weights, saved, *options)
    alone, *others = torch.ops.mclrec_fast.encode_backward(*arguments)
    start = torch.randn_like(alone)
    grad_items = start.clone()
    found = torch.ops.mclrec_fast.encode_backward_add(*arguments, grad_items)
    assert alone.any()
    torch.testing.assert_close(grad_items - start, alone, rtol=0, atol=1e-12)
    assert torch.equal(grad_items[0], start[0])  # item 0 gets none
    assert len(found) == len(others)
    assert all(a.equal(b) for a, b in zip(found, others, strict=True))
    torch.library.opcheck(
        torch.ops.mclrec_fast.encode_backward_add.default,
        (*arguments, start.clone()),
        # torch.compile takes no list of results from an operator that writes to its input.
        test_utils=("test_schema", "test_faketensor"),
    )
    for wrong in (start[1:], start.float(), start.t().contiguous().t()):
        with pytest.raises((TypeError, ValueError), match="encode: grad_items must"):
            torch.ops.mclrec_fast.encode_backward_add(*arguments, wrong)


@needs_kernel
def test_second_derivative_is_refused() -> None:
    case = Case([3, 2], 8, 8)
    weights = [w.requires_grad_() for w in encoder_weights(case)]
    h = encode(packed_batch(case), weights, backend="native", **options(case))
    (grad,) = torch.autograd.grad(h.square().sum(), weights[4], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        grad.square().sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_item_0_gets_no_gradient_as_a_token(backend: str) -> None:
    case = CASES["masked last tokens"]
    weights = [w.requires_grad_() for w in encoder_weights(case)]
    h = encode(packed_batch(case), weights, backend=backend, **options(case))
    (grad,) = torch.autograd.grad(h.sum(), weights[0])
    assert (packed_batch(case).items == 0).any()
    assert torch.equal(grad[0], torch.zeros_like(grad[0]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dropout", DROPOUTS)
def test_nan_reaches_the_rows_that_see_it(backend: str, dropout: str) -> None:
    case = CASES["mixed"]
    batch, weights = packed_batch(case), encoder_weights(case)
    weights[0][5] = torch.nan
    h = encode(batch, weights, backend=backend, **options(case, dropout))
    spans = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    sees = torch.stack([(batch.items[a:b] == 5).any() for a, b in spans])
    last = torch.stack([batch.items[b - 1] == 5 for b in batch.offsets[1:]])
    assert not h[~sees].isnan().any()
    assert h[last].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(backend: str) -> None:
    case = Case([3, 2], 8, 8)
    batch, weights = packed_batch(case), encoder_weights(case)

    def refused(
        error: type[Exception],
        match: str,
        packed: PackedSequences = batch,
        weights: list[Tensor] = weights,
        **changes: Any,
    ) -> None:
        with pytest.raises(error, match=match):
            encode(packed, weights, backend=backend, **options(case, **changes))

    def numbers(*values: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int32)

    refused(ValueError, "heads must divide", heads=3)
    refused(ValueError, "heads must divide", heads=0)
    for name in ("hidden_dropout", "attention_dropout"):
        for p in (-0.1, 1.0, float("nan")):
            refused(ValueError, f"{name} must be in", **{name: p})
    refused(ValueError, "update must be", update=-1)
    refused(ValueError, "update must be", update=2**32)
    refused(ValueError, "seed must be", seed=2**64)
    refused(ValueError, "eps must be", eps=-1.0)
    refused(ValueError, "eps must be", eps=float("nan"))

    refused(TypeError, "items must be", batch._replace(items=batch.items.long()))
    refused(TypeError, "offsets must be", batch._replace(offsets=batch.offsets.float()))
    refused(ValueError, "items must have 1 dim", batch._replace(items=batch.items[None]))
    refused(ValueError, "one size", batch._replace(positions=batch.positions[1:]))
    for value in (-1, ITEMS, 2**31 - 1):
        bad = batch.items.clone()
        bad[1] = value
        refused(ValueError, rf"items\[1\] must be in 0..{ITEMS - 1}", batch._replace(items=bad))
    for value in (-1, POSITIONS):
        bad = batch.positions.clone()
        bad[4] = value
        match = rf"positions\[4\] must be in 0..{POSITIONS - 1}"
        refused(ValueError, match, batch._replace(positions=bad))
    refused(ValueError, "offsets must hold", batch._replace(offsets=numbers()))
    refused(ValueError, "start at 0", batch._replace(offsets=numbers(1, 3, 5)))
    refused(ValueError, "offsets must ascend", batch._replace(offsets=numbers(0, 3, 3)))
    refused(ValueError, "offsets must ascend", batch._replace(offsets=numbers(0, 4, 2)))
    refused(ValueError, "offsets must ascend", batch._replace(offsets=numbers(0, 2**31 - 1, -5)))
    refused(ValueError, "offsets end at 6", batch._replace(offsets=numbers(0, 3, 6)))

    refused(ValueError, "weights must be 4 and 16", weights=weights[:-1])
    refused(ValueError, "weights must be 4 and 16", weights=weights[:4])
    refused(TypeError, "item_embedding must be", weights=[weights[0].half(), *weights[1:]])
    refused(
        TypeError, r"weights\[1\] must be", weights=[weights[0], weights[1].float(), *weights[2:]]
    )
    for index in range(1, len(weights)):
        bad_weights = list(weights)
        bad_weights[index] = torch.zeros([n + 1 for n in weights[index].shape]).double()
        refused(ValueError, "must have shape", weights=bad_weights)


@needs_kernel
def test_kernel_checks_on_its_own() -> None:
    case = Case([3, 2], 8, 8)
    batch, weights = packed_batch(case), encoder_weights(case)
    rest = (weights, 2, 0.0, 0.0, 1e-12, 0, NUMBER, True)
    op = torch.ops.mclrec_fast.encode
    bad = batch.items.clone()
    bad[0] = ITEMS
    for items, positions, offsets in (
        (bad, batch.positions, batch.offsets),
        (batch.items, bad, batch.offsets[:0]),
        (batch.items[:4], batch.positions[:4], batch.offsets),
    ):
        with pytest.raises(ValueError, match="encode: "):
            op(items, positions, offsets, *rest)
    for number in (torch.tensor(-1), torch.tensor(2**32), torch.tensor(1, dtype=torch.int32)):
        with pytest.raises(ValueError, match="encode: update must be"):
            op(*batch, *rest[:-2], number, True)
    h, saved = op(*batch, *rest)
    with pytest.raises(ValueError, match="saved must have shape"):
        torch.ops.mclrec_fast.encode_backward(h, *batch, weights, saved[1:], *rest[1:-1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_update_in_a_tensor(backend: str) -> None:
    """On a CPU it is read; on a GPU the kernels read it (tests/gpu)."""
    case = CASES["mixed"]
    settings = options(case, "half")
    items, weights = packed_batch(case), encoder_weights(case)
    number = torch.tensor(settings.pop("update"))
    expected = encode(items, weights, **settings, update=int(number), backend=backend)
    assert encode(items, weights, **settings, update=number, backend=backend).equal(expected)
    for wrong, error, message in (
        (number.int(), TypeError, "update must be torch.int64"),
        (number[None], ValueError, r"update must have 0 dimension\(s\)"),
        (torch.tensor(2**32), ValueError, r"update must be in 0\.\.2\^32-1"),
        (number.to("meta"), ValueError, "one device, got items on cpu, update on meta"),
    ):
        with pytest.raises(error, match=message):
            encode(items, weights, **settings, update=wrong, backend=backend)


@needs_kernel
def test_the_kernels_have_the_same_weights_in_the_same_order() -> None:
    assert _native.MODULES["_C"].module is not None
    ours = [*EMBEDDING_SHAPES.items(), *LAYER_SHAPES.items()]
    assert _native.MODULES["_C"].module.encode_weights() == ours
    assert len(set(name for name, _ in ours)) == len(ours)
