"""Emulated CUDA `item_cross_entropy`, loss and gradients, against the reference and its autograd.

This is emulation on a CPU, not a GPU.
"""

import pytest
import torch
from torch import Tensor

from mclrec_fast.ops import item_cross_entropy

from ..ops import test_item_cross_entropy as items
from ..ops.accuracy import assert_accurate
from .ops import SCHEDULES, emulated

SHAPES = {  # B, V, D
    "usual": (70, 300, 64),
    "one row": (1, 90, 16),
    "one class": (3, 1, 8),
    "exactly tiles": (64, 128, 64),
    "one more than tiles": (65, 129, 64),
    "width not a multiple of 8": (5, 70, 12),
    "width not a multiple of 4": (9, 40, 7),
    "wider than a tile": (20, 70, 80),
    "three pieces wide": (3, 66, 150),
    "parts of several tiles": (8, 64 * 10 + 1, 4),
}
Result = tuple[Tensor, Tensor, Tensor]  # loss, gradient of h, gradient of the items


def inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Row vectors, item vectors and targets; logits reach some tens."""
    B, V, D = shape
    generator = torch.Generator().manual_seed(B + V + D)
    h = torch.randn(B, D, generator=generator, dtype=torch.float64) * 2
    items = torch.randn(V, D, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, V, (B,), generator=generator)
    return h.to(dtype).requires_grad_(), items.to(dtype).requires_grad_(), targets


def run(shape: tuple[int, int, int], dtype: torch.dtype, backend: str) -> Result:
    h, items, targets = inputs(shape, dtype)
    loss = item_cross_entropy(h, items, targets, backend=backend)
    (3.0 * loss).backward()
    assert h.grad is not None and items.grad is not None
    return loss.detach(), h.grad, items.grad


def distances(left: Result, right: Result) -> list[float]:
    return [
        float((a.double() - b.double()).abs().max()) / max(float(b.abs().max()), 1e-12)
        for a, b in zip(left, right, strict=True)
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_equals_reference_in_float64(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with emulated(monkeypatch):
        native = run(SHAPES[name], torch.float64, "native")
    assert max(distances(native, run(SHAPES[name], torch.float64, "torch"))) < 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["usual", "one more than tiles", "wider than a tile"])
def test_float32_rounds_no_worse_than_torch(
    monkeypatch: pytest.MonkeyPatch, name: str, schedule: str
) -> None:
    truth = run(SHAPES[name], torch.float64, "torch")
    with emulated(monkeypatch, schedule):
        ours = distances(run(SHAPES[name], torch.float32, "native"), truth)
    torch32 = distances(run(SHAPES[name], torch.float32, "torch"), truth)
    assert all(a <= 2 * b + 1e-6 for a, b in zip(ours, torch32, strict=True)), (ours, torch32)


@pytest.mark.parametrize("shape", [(1030, 200, 16), (300, 3000, 24)])
def test_rounding_does_not_grow_with_rows_or_items(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    """At most twice torch's error, with no allowance for the size of the logits."""
    arguments = items.inputs(*shape)
    with emulated(monkeypatch):
        native = items.run(*arguments, "native", torch.float32)
    dtypes = (torch.float32, torch.float64)
    assert_accurate(native, *(items.run(*arguments, "torch", dtype) for dtype in dtypes))


@pytest.mark.parametrize("name", ["usual", "width not a multiple of 4", "three pieces wide"])
def test_tf32_products(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with emulated(monkeypatch, "random", tf32=True):
        native = run(SHAPES[name], torch.float32, "native")
    away = distances(native, run(SHAPES[name], torch.float64, "torch"))
    assert max(away) < 3e-2
    assert max(away) > 1e-5, "the tensor-core path did not run"


def test_one_gradient_only(monkeypatch: pytest.MonkeyPatch) -> None:
    h, items, targets = inputs(SHAPES["usual"], torch.float64)
    expected = run(SHAPES["usual"], torch.float64, "torch")
    with emulated(monkeypatch):
        item_cross_entropy(h, items.detach(), targets, backend="native").backward()
        item_cross_entropy(h.detach(), items, targets, backend="native").backward()
    torch.testing.assert_close(3 * h.grad, expected[1], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(3 * items.grad, expected[2], rtol=1e-11, atol=1e-13)


def test_non_contiguous_and_unaligned_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    h, items, targets = (x.detach() for x in inputs((9, 40, 8), torch.float32))
    strided = torch.stack((h, h), 2)[:, :, 0]
    shifted = torch.cat((items.new_zeros(1), items.reshape(-1)))[1:].view(40, 8)
    expected = item_cross_entropy(h, items, targets, backend="torch")
    with emulated(monkeypatch):
        got = item_cross_entropy(strided, shifted, targets, backend="native")
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_shows(monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    h, items, targets = (x.detach() for x in inputs((9, 40, 8), torch.float32))
    h[3, 2] = bad
    with emulated(monkeypatch):
        assert torch.isnan(item_cross_entropy(h, items, targets, backend="native"))


def test_a_target_outside_the_table_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    h, items, targets = (x.detach() for x in inputs((9, 40, 8), torch.float32))
    targets[5] = 40
    with emulated(monkeypatch):
        assert torch.isnan(item_cross_entropy(h, items, targets, backend="native"))
