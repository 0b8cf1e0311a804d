"""Emulated CUDA `contrast` and `info_nce`, losses and gradients, against the reference.

This is emulation on a CPU, not a GPU. Accuracy is judged as for the CPU kernels (tests/ops).
"""

import pytest
import torch

from mclrec_fast.ops import contrast

from ..ops import test_contrast as four
from ..ops import test_info_nce as two
from ..ops.accuracy import assert_accurate, assert_close64, largest
from .ops import SCHEDULES, emulated

SHAPES = {  # B, D
    "one row": (1, 5),
    "two rows": (2, 3),
    "three rows": (3, 16),
    "width 1": (9, 1),
    "width 7": (9, 7),
    "width 9": (9, 9),
    "exactly tiles": (64, 64),
    "one more than a tile": (65, 32),
    "wider than a tile": (20, 65),
    "three pieces wide": (5, 150),
    "three tiles": (130, 24),
}


@pytest.mark.parametrize("settings", four.SETTINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_contrast(monkeypatch: pytest.MonkeyPatch, shape: str, settings: str) -> None:
    with emulated(monkeypatch):
        four.compare(four.inputs(*SHAPES[shape]), four.SETTINGS[settings])


@pytest.mark.parametrize("settings", two.SETTINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_info_nce(monkeypatch: pytest.MonkeyPatch, shape: str, settings: str) -> None:
    with emulated(monkeypatch):
        two.compare(*two.inputs(*SHAPES[shape]), two.SETTINGS[settings])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", ["one more than a tile", "wider than a tile"])
def test_every_schedule(monkeypatch: pytest.MonkeyPatch, shape: str, schedule: str) -> None:
    with emulated(monkeypatch, schedule):
        four.compare(four.inputs(*SHAPES[shape], size=8.0), four.SETTINGS["dot, cold"])
        four.compare(four.inputs(*SHAPES[shape], size=8.0), four.SETTINGS["cos"])


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_each_loss_alone(monkeypatch: pytest.MonkeyPatch, weights: tuple[float, ...]) -> None:
    with emulated(monkeypatch):
        four.compare(four.inputs(67, 12), {}, weights)
        four.compare(four.inputs(7, 12), four.SETTINGS["cos"], weights)


@pytest.mark.parametrize("size", [64.0, 1e4])
def test_large_logits(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    with emulated(monkeypatch):
        four.compare(four.inputs(70, 24, size=size), {})
        two.compare(*two.inputs(3, 16, size=size), two.SETTINGS["dot"])


@pytest.mark.parametrize("rows", [2, 5, 130])
def test_ties_of_maxima(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Many equal maxima: each gradient goes where torch puts it."""
    generator = torch.Generator().manual_seed(rows)
    views = [torch.randint(-1, 2, (rows, 3), generator=generator).double() for _ in range(4)]
    for weights in ((0.0, 0.0, 1.0), four.WEIGHTS):
        truth = four.run(views, {}, "torch", torch.float64, weights)
        with emulated(monkeypatch, "random"):
            native = four.run(views, {}, "native", torch.float64, weights)
            native32 = four.run(views, {}, "native", torch.float32, weights)
        assert_close64(native, truth, 1e-13)
        for result, expected in zip(native32, truth, strict=True):
            assert largest(result.double() - expected) <= 1e-5 * largest(expected)


@pytest.mark.parametrize("shape", [(129, 32), (300, 24), (1030, 16)])
def test_rounding_does_not_grow_with_the_rows(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """At most twice torch's error, with no allowance for the size of the logits."""
    views = four.inputs(*shape)
    settings = {"cl1": shape[0] < 1000}  # fewer strips where they are long
    with emulated(monkeypatch):
        native = four.run(views, settings, "native", torch.float32)
        native2 = two.run(*views[:2], two.SETTINGS["dot"], "native", torch.float32)
    dtypes = (torch.float32, torch.float64)
    assert_accurate(native, *(four.run(views, settings, "torch", dtype) for dtype in dtypes))
    torch2 = (two.run(*views[:2], two.SETTINGS["dot"], "torch", dtype) for dtype in dtypes)
    assert_accurate(native2, *torch2)


@pytest.mark.parametrize("rows", [66, 300])
def test_equal_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Everything ties, and a gradient is a sum of equal terms: all roundings point one way.

    A chain of additions may be off by one rounding a term: of 64 in a tile, then of the tiles of at
    most five strips.
    """
    views = [torch.ones(rows, 4, dtype=torch.float64)] * 4
    truth = four.run(views, {}, "torch", torch.float64)
    with emulated(monkeypatch):
        assert_close64(four.run(views, {}, "native", torch.float64), truth, 1e-13)
        native = four.run(views, {}, "native", torch.float32)
    additions = 64 + 5 * (rows // 64 + 1)
    for result, expected in zip(native, truth, strict=True):
        bound = additions * torch.finfo(torch.float32).eps * max(largest(expected), 1e-2)
        assert largest(result.double() - expected) <= bound


@pytest.mark.parametrize("settings", ["dot", "cos"])
@pytest.mark.parametrize("wanted", [(0,), (3,), (0, 1), (1, 2)])
def test_some_gradients_only(
    monkeypatch: pytest.MonkeyPatch, settings: str, wanted: tuple[int, ...]
) -> None:
    views = [x.float() for x in four.inputs(40, 12)]
    with emulated(monkeypatch):
        full = four.run(views, four.SETTINGS[settings], "native", torch.float32)
        views = [x.clone().requires_grad_(index in wanted) for index, x in enumerate(views)]
        losses = contrast(*views, backend="native", **four.SETTINGS[settings])
        total = sum(weight * loss for weight, loss in zip(four.WEIGHTS, losses, strict=True))
        grads = torch.autograd.grad(total, [views[index] for index in wanted])
    for index, grad in zip(wanted, grads, strict=True):
        assert torch.equal(grad, full[3 + index])


@pytest.mark.parametrize("settings", ["dot", "cos"])
def test_tf32_products(monkeypatch: pytest.MonkeyPatch, settings: str) -> None:
    views = four.inputs(70, 24, size=2.0)
    truth = four.run(views, four.SETTINGS[settings], "torch", torch.float64)
    with emulated(monkeypatch, "random", tf32=True):
        native = four.run(views, four.SETTINGS[settings], "native", torch.float32)
    away = [largest(n.double() - x) / largest(x) for n, x in zip(native, truth, strict=True)]
    assert max(away) < 2e-2
    assert max(away) > 1e-5, "the tensor-core path did not run"


def test_nan_propagates(monkeypatch: pytest.MonkeyPatch) -> None:
    views = four.inputs(70, 16)
    views[3][33, 5] = torch.nan
    with emulated(monkeypatch):
        cl1, cl2, regulariser, *grads = four.run(views, {}, "native", torch.float32)
    assert cl1.isfinite()
    assert cl2.isnan() and regulariser.isnan()
    assert grads[2].isnan().any() and grads[3].isnan().all()
