"""Emulated CUDA `encode`, forward and backward, against the reference and its autograd.

This is emulation on a CPU, not a GPU. float64 instances of the kernels show that the mathematics is
the reference's; float32 and TF32 are held to what their rounding allows.
"""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mclrec_fast.ops import PackedSequences, encode
from mclrec_fast.ops.torch.encode import encode as reference

from .ops import NAMESPACE, SCHEDULES, emulated

V, P = 40, 80


class Case(NamedTuple):
    """A model and a batch."""

    depth: int
    heads: int
    inner: int
    layers: int
    lengths: list[int]
    spare: int = 0  # tokens of capacity behind the last
    hidden_dropout: float = 0.5
    attention_dropout: float = 0.5


SHORT = [3, 1, 8, 2, 5, 5]
CASES = {
    "usual": Case(64, 2, 256, 2, SHORT, spare=9),
    "one token": Case(8, 2, 16, 2, [1]),
    "lengths all equal": Case(16, 1, 24, 2, [4] * 9, spare=3),
    "one long row among short ones": Case(16, 2, 32, 2, [2, 70, 1]),
    "lengths around a warp": Case(8, 1, 8, 2, [31, 32, 33]),
    "width not a multiple of 8": Case(12, 3, 20, 2, SHORT),
    "width not a multiple of 4": Case(10, 2, 18, 2, SHORT),
    "one layer": Case(16, 4, 16, 1, SHORT),
    "three layers": Case(8, 2, 16, 3, SHORT, spare=1),
    "wider than a tile": Case(80, 2, 96, 2, SHORT),
    "wider than a warp of fours": Case(144, 2, 72, 2, [2, 5]),
    "no dropout": Case(16, 2, 32, 2, SHORT, hidden_dropout=0.0, attention_dropout=0.0),
    "16-bit dropout": Case(16, 2, 32, 2, SHORT, hidden_dropout=0.1, attention_dropout=0.3),
    "16-bit dropout, odd width": Case(10, 2, 18, 2, SHORT, hidden_dropout=0.3),
    "more tokens than a row tile": Case(8, 2, 16, 2, [9] * 12),
}
SETTINGS = {"eps": 1e-12, "seed": 2**63 + 7, "update": 5}


def weights(case: Case, dtype: torch.dtype) -> list[Tensor]:
    """Random weights, LayerNorms away from 1 and 0, as leaves that want a gradient."""
    generator = torch.Generator().manual_seed(case.depth + case.layers)

    def draw(*shape: int, scale: float = 0.4, shift: float = 0.0) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale + shift
        return values.to(dtype).requires_grad_()

    d, f = case.depth, case.inner
    shrink = d**-0.5
    result = [draw(V, d), draw(P, d), draw(d, shift=1.0), draw(d)]
    for _ in range(case.layers):
        for _ in range(4):
            result += [draw(d, d, scale=shrink), draw(d)]
        result += [draw(d, shift=1.0), draw(d), draw(f, d, scale=shrink), draw(f)]
        result += [draw(d, f, scale=f**-0.5), draw(d), draw(d, shift=1.0), draw(d)]
    return result


def batch(case: Case) -> PackedSequences:
    """Random items, some last tokens masked; positions with gaps; spare capacity holds rubbish."""
    generator = torch.Generator().manual_seed(sum(case.lengths))
    tokens = sum(case.lengths)
    items = torch.randint(1, V, (tokens + case.spare,), generator=generator, dtype=torch.int32)
    items[::3] = items[0]  # an item that occurs often
    positions = torch.zeros_like(items)
    offsets = torch.tensor([0, *case.lengths]).cumsum(0).to(torch.int32)
    for s, n in enumerate(case.lengths):
        first = int(offsets[s])
        gaps = torch.randint(0, 2, (n,), generator=generator).cumsum(0)
        positions[first : first + n] = (torch.arange(n) + gaps).clamp_max(P - 1).to(torch.int32)
        if s % 3 == 1 and n > 1:
            items[first + n - 1] = 0
    return PackedSequences(items, positions, offsets)


def arguments(case: Case) -> dict[str, Any]:
    """The encoder's settings as the reference takes them."""
    return {
        "heads": case.heads,
        "hidden_dropout": case.hidden_dropout,
        "attention_dropout": case.attention_dropout,
        **SETTINGS,
    }


def by_reference(case: Case, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """The encoding h and the gradient of a random functional of it, by autograd."""
    leaves = weights(case, dtype)
    h = reference(batch(case), leaves, **arguments(case))
    return h.detach(), list(torch.autograd.grad(h, leaves, grad_of(h), materialize_grads=True))


def by_kernels(
    case: Case,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    tf32: bool,
    bf16: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """The same by the emulated kernels."""
    packed, leaves = batch(case), [weight.detach() for weight in weights(case, dtype)]
    seed = SETTINGS["seed"] - 2**64
    number = torch.tensor(SETTINGS["update"])
    tail = (case.heads, case.hidden_dropout, case.attention_dropout, SETTINGS["eps"], seed, number)
    ops = getattr(torch.ops, NAMESPACE)
    with emulated(monkeypatch, schedule, tf32=tf32, bf16=bf16):
        h, saved = ops.encode(*packed, leaves, *tail, True)
        grads = ops.encode_backward(grad_of(h), *packed, leaves, saved, *tail)
        again, nothing = ops.encode(*packed, leaves, *tail, False)
    assert torch.equal(h, again) and nothing.numel() == 0
    return h, grads


def grad_of(h: Tensor) -> Tensor:
    """A fixed gradient for h."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(h.shape, generator=generator, dtype=torch.float64).to(h.dtype)


def distances(left: tuple[Tensor, list[Tensor]], right: tuple[Tensor, list[Tensor]]) -> list[float]:
    """Largest difference of h and of each gradient, relative to the largest number of the right.

    A gradient that is 0 in theory (a key bias; a query with one key) is rounding on both sides:
    it is measured by a tenth of the largest gradient.
    """
    floor = 1e-1 * max(float(b.abs().max()) for b in right[1])
    result = []
    for a, b in zip([left[0], *left[1]], [right[0], *right[1]], strict=True):
        scale = max(float(b.abs().max()), floor)
        difference = (a.double() - b.double()).abs().max()
        assert torch.isfinite(difference)
        result.append(float(difference) / scale)
    return result


@pytest.mark.parametrize("name", CASES)
def test_equals_reference_in_float64(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = CASES[name]
    native = by_kernels(case, torch.float64, monkeypatch, "forward", False)
    assert max(distances(native, by_reference(case, torch.float64))) < 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["usual", "one long row among short ones", "wider than a tile"])
def test_float32_rounds_no_worse_than_torch(
    monkeypatch: pytest.MonkeyPatch, name: str, schedule: str
) -> None:
    case = CASES[name]
    truth = by_reference(case, torch.float64)
    native = by_kernels(case, torch.float32, monkeypatch, schedule, False)
    ours = distances(native, truth)
    torch32 = distances(by_reference(case, torch.float32), truth)
    assert all(a <= 2 * b + 1e-6 for a, b in zip(ours, torch32, strict=True)), (ours, torch32)


@pytest.mark.parametrize("name", ["usual", "width not a multiple of 4"])
def test_tf32_products(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Tensor-core tiles: the same function up to TF32's 2**-11 a factor, and really rounded."""
    case = CASES[name]
    native = by_kernels(case, torch.float32, monkeypatch, "random", True)
    away = distances(native, by_reference(case, torch.float64))
    assert max(away) < 2e-2
    assert away[0] > 1e-5, "the tensor-core path did not run"


@pytest.mark.parametrize("update", [0, 5, 2**32 - 1])
@pytest.mark.parametrize("name", ["usual", "16-bit dropout", "16-bit dropout, odd width"])
def test_an_update_read_from_memory_draws_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, name: str, update: int
) -> None:
    case = CASES[name]
    number = torch.tensor(update)
    other = torch.tensor((update + 1) % 2**32)
    with emulated(monkeypatch):
        given, counted, another = (
            by_the_public_op(case, update) for update in (update, number, other)
        )
    assert all(a.equal(b) for a, b in zip(given, counted, strict=True))
    assert not another[0].equal(given[0])


def by_the_public_op(case: Case, update: int | Tensor) -> list[Tensor]:
    """The encoding and its gradients in float32, for an update's number."""
    leaves = weights(case, torch.float32)
    settings = {**arguments(case), "update": update}
    h = encode(batch(case), leaves, **settings, backend="native")
    return [h.detach(), *torch.autograd.grad(h, leaves, grad_of(h))]


def test_an_update_changed_before_the_backward_pass_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaves, number = weights(CASES["one token"], torch.float32), torch.tensor(3)
    settings = {**arguments(CASES["one token"]), "update": number}
    with emulated(monkeypatch):
        h = encode(batch(CASES["one token"]), leaves, **settings, backend="native")
        number.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            h.sum().backward()


def test_opcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["lengths all equal"]
    leaves = weights(case, torch.float64)
    plain = [weight.detach() for weight in leaves]
    tail = (case.heads, 0.5, 0.2, 1e-12, 3, torch.tensor(4))
    op = torch.ops.mclrec_fast.encode
    with emulated(monkeypatch):
        torch.library.opcheck(op.default, (*batch(case), plain, *tail, False))
        torch.library.opcheck(op.default, (*batch(case), leaves, *tail, True))
        h, saved = op(*batch(case), plain, *tail, True)
        torch.library.opcheck(
            torch.ops.mclrec_fast.encode_backward.default,
            (h, *batch(case), plain, saved, *tail),
        )
