"""packed_attention: the kernel against the reference, value and gradients, on every ISA."""

import statistics
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import packed_attention

from .accuracy import assert_close64

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("packed_attention"), reason=f"no kernel: {_native.why_not()}"
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]
DROPOUTS = [0.0, 0.5, 0.2]
MIXED = [3, 1, 5, 50, 2, 8, 8, 9, 7, 17, 33, 1, 4, 16, 32, 31, 64, 65]


class Case(NamedTuple):
    lengths: list[int]
    heads: int = 2
    size: int = 32
    hidden_keys: float | None = None  # share of tokens that are no keys
    spare: int = 0


CASES = {
    "one token": Case([1]),
    "one row": Case([9]),
    "mixed": Case(MIXED),
    "hidden keys": Case(MIXED, hidden_keys=0.3),
    "no keys at all": Case(MIXED, hidden_keys=1.1),
    "empty sequences": Case([0, 3, 0, 0, 5, 0]),
    "only empty sequences": Case([0, 0]),
    "no sequences": Case([]),
    "spare capacity": Case(MIXED, spare=13),
    "nothing but spare capacity": Case([], spare=4),
    "lengths all equal": Case([7] * 60),
    "only single tokens": Case([1] * 100),
    "one long row": Case([200]),
    "a very long row": Case([700], 1, 8),
    "four heads of 16": Case(MIXED, 4, 16),
    "heads of 1": Case(MIXED, 3, 1),
    "heads of 7": Case(MIXED, 1, 7),
    "heads of 8": Case(MIXED, 1, 8),
    "heads of 9": Case(MIXED, 2, 9),
    "heads of 24": Case(MIXED, 1, 24),
    "heads of 72": Case(MIXED, 1, 72),
}
# Around the vectors of every instruction set.
CASES |= {f"heads of {d}": Case(MIXED, 2, d) for d in (15, 16, 17, 31, 32, 33)}


def inputs(case: Case, seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Query, key, value, gradient [T, H, d] (float64 that float32 holds), offsets, visible."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *case.lengths]).cumsum(0).to(torch.int32)
    tokens = int(offsets[-1]) + case.spare
    shape = (tokens, case.heads, case.size)
    tensors = [torch.randn(shape, generator=generator).double() for _ in range(4)]
    visible = None
    if case.hidden_keys is not None:
        visible = torch.rand(tokens, generator=generator) >= case.hidden_keys
    return tensors, offsets, visible


def run(
    case: Case,
    dropout: float,
    backend: str,
    dtype: torch.dtype,
    draw: int = 0,
    device: str = "cpu",
    **options: Any,
) -> tuple[Tensor, ...]:
    """The context and the gradients of query, key and value, computed on a device."""
    tensors, offsets, visible = inputs(case, draw)
    *qkv, grad = (x.to(device, dtype) for x in tensors)
    qkv = [x.requires_grad_() for x in qkv]
    visible = None if visible is None else visible.to(device)
    options = {"seed": 2**63 + 5, "update": 3, "layer": 2} | options
    context = packed_attention(
        *qkv, offsets.to(device), visible=visible, dropout=dropout, backend=backend, **options
    )
    gradients = torch.autograd.grad(context, qkv, grad)
    return tuple(x.detach().cpu() for x in (context, *gradients))


def compare64(case: Case, dropout: float, device: str = "cpu", **options: Any) -> None:
    """With dropout: one different bit of a mask would show."""
    native = run(case, dropout, "native", torch.float64, device=device, **options)
    if sum(case.lengths) == 0:
        assert all(torch.equal(x, torch.zeros_like(x)) for x in native)
        return
    assert_close64(native, run(case, dropout, "torch", torch.float64, **options), 1e-13)


def compare32(case: Case, dropout: float, device: str = "cpu") -> None:
    """By root mean square errors, because the largest of many small ones is chance."""
    unit = torch.finfo(torch.float32).eps
    ratios: list[list[float]] = [[] for _ in range(4)]
    for draw in range(3):
        truth = run(case, dropout, "torch", torch.float64, draw)
        native = run(case, dropout, "native", torch.float32, draw, device)
        torch32 = run(case, dropout, "torch", torch.float32, draw, device)
        for ratio, n, t, x in zip(ratios, native, torch32, truth, strict=True):
            assert n.dtype == torch.float32
            allowed = 2 * (t - x).square().mean().sqrt() + unit * x.square().mean().sqrt()
            error = (n - x).square().mean().sqrt()
            ratio.append(float(error / allowed) if error > 0 else 0.0)
    assert max(map(statistics.median, ratios)) <= 1.0, ratios


@needs_kernel
@pytest.mark.parametrize("dropout", DROPOUTS)
@pytest.mark.parametrize("name", CASES)
def test_float64(name: str, dropout: float, isa: str) -> None:
    compare64(CASES[name], dropout)


@needs_kernel
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("name", [n for n in CASES if sum(CASES[n].lengths) > 1])
def test_float32(name: str, dropout: float, isa: str) -> None:
    compare32(CASES[name], dropout)


@needs_kernel
@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize(("update", "layer"), [(0, 0), (2**32 - 1, 255)])
def test_every_seed_update_and_layer(seed: int, update: int, layer: int) -> None:
    options = {"seed": seed, "update": update, "layer": layer}
    case = Case(MIXED, 2, 8)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(sum(MIXED), 2, 8, generator=generator).double() for _ in range(3))
    offsets = inputs(case)[1]
    for dropout in (0.5, 0.3):
        native, truth = (
            packed_attention(q, k, v, offsets, dropout=dropout, backend=backend, **options)
            for backend in ("native", "torch")
        )
        assert_close64((native,), (truth,), 1e-13)


@needs_kernel
@pytest.mark.parametrize("name", ["mixed", "one long row", "heads of 9"])
def test_bits_do_not_depend_on_threads(name: str, isa: str) -> None:
    before = torch.get_num_threads()
    results = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        results.append(run(CASES[name], 0.5, "native", torch.float32))
    torch.set_num_threads(before)
    assert all(all(map(torch.equal, results[0], other)) for other in results[1:])


@needs_kernel
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_gradient_of_one_input_and_non_contiguous_input(wanted: int) -> None:
    case = CASES["mixed"]
    tensors, offsets, _ = inputs(case)
    qkv = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in tensors[:3]]
    assert not any(x.is_contiguous() for x in qkv)
    qkv[wanted].requires_grad_()
    strided = torch.stack([offsets, offsets], -1)[:, 0]
    options = {"seed": 2**63 + 5, "update": 3, "layer": 2}
    context = packed_attention(*qkv, strided, dropout=0.5, backend="native", **options)
    grad = tensors[3].transpose(0, 1).contiguous().transpose(0, 1)
    (gradient,) = torch.autograd.grad(context, qkv[wanted], grad)
    expected = run(case, 0.5, "native", torch.float64)
    assert torch.equal(context, expected[0])
    assert torch.equal(gradient, expected[1 + wanted])


@needs_kernel
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradcheck(dropout: float, isa: str) -> None:
    tensors, offsets, visible = inputs(Case([3, 1, 9], 2, 3, hidden_keys=0.2))
    torch.autograd.gradcheck(
        lambda q, k, v: packed_attention(
            q, k, v, offsets, visible=visible, dropout=dropout, backend="native"
        ),
        [x.requires_grad_() for x in tensors[:3]],
    )


@needs_kernel
@pytest.mark.parametrize("name", ["mixed", "hidden keys", "heads of 9", "spare capacity"])
def test_opcheck(name: str) -> None:
    (q, k, v, grad), offsets, visible = inputs(CASES[name])
    for x in (q, k, v):
        x.requires_grad_()
    options = (offsets, visible, 0.5, 1, torch.tensor(2), 3)
    torch.library.opcheck(torch.ops.mclrec_fast.packed_attention.default, (q, k, v, *options))
    torch.library.opcheck(
        torch.ops.mclrec_fast.packed_attention_backward.default,
        (grad, q.detach(), k.detach(), v.detach(), *options),
    )


@needs_kernel
def test_second_derivative_is_refused() -> None:
    (q, k, v, _), offsets, _ = inputs(CASES["one row"])
    q.requires_grad_()
    context = packed_attention(q, k, v, offsets, backend="native")
    (grad,) = torch.autograd.grad(context.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        grad.square().sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_reaches_those_who_see_it(backend: str) -> None:
    (q, k, v, _), offsets, _ = inputs(Case([4, 12]))
    k[6, 0, 3] = torch.nan  # the third token of the second sequence
    context = packed_attention(q, k, v, offsets, backend=backend)
    assert context[:6].isfinite().all()
    assert context[6:, 0].isnan().all()
    assert context[6:, 1].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(backend: str) -> None:
    (q, k, v, _), offsets, _ = inputs(Case([3, 2]))

    def refused(error: type[Exception], match: str, *arguments: Tensor, **options: Any) -> None:
        with pytest.raises(error, match=match):
            packed_attention(*arguments, backend=backend, **options)

    def numbers(*values: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int32)

    for p in (-0.1, 1.0, float("nan")):
        refused(ValueError, "dropout must be in", q, k, v, offsets, dropout=p)
    refused(ValueError, "update must be", q, k, v, offsets, update=2**32)
    refused(ValueError, "layer must be", q, k, v, offsets, layer=256)
    refused(ValueError, "layer must be", q, k, v, offsets, layer=-1)
    refused(ValueError, "seed must be", q, k, v, offsets, seed=2**64)
    refused(TypeError, "query must be", q.half(), k, v, offsets)
    refused(TypeError, "key must be", q, k.float(), v, offsets)
    refused(ValueError, "query must have 3", q[0], k, v, offsets)
    refused(ValueError, "at least one head", q[..., :0], k[..., :0], v[..., :0], offsets)
    refused(ValueError, "query and value must have one shape", q, k, v[:4], offsets)
    refused(TypeError, "offsets must be", q, k, v, offsets.long())
    refused(ValueError, "offsets must hold", q, k, v, numbers())
    refused(ValueError, "start at 0", q, k, v, numbers(1, 5))
    refused(ValueError, "offsets must ascend", q, k, v, numbers(0, 4, 3))
    refused(ValueError, "offsets must ascend", q, k, v, numbers(0, 2**31 - 1, -5))
    refused(ValueError, "offsets end at 6", q, k, v, numbers(0, 3, 6))
    refused(TypeError, "visible must be", q, k, v, offsets, visible=offsets)
    refused(ValueError, "visible must hold 5", q, k, v, offsets, visible=torch.ones(4).bool())
