"""Emulated CUDA `contrast` and `info_nce`: losses alone, ties, rounding, TF32, NaN.

This is emulation on a CPU, not a GPU. The rest is in test_conformance.py.
"""

import pytest
import torch

from ..conformance.accuracy import assert_accurate, assert_close64, largest
from ..conformance.checks import compare
from ..conformance.contrasts import CONTRAST, INFO_NCE, Shape
from ..conformance.op_case import Call, run
from .ops import emulated

FLOATS = (torch.float32, torch.float64)
VIEWS = ("h1", "h2", "z1", "z2")


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_each_loss_alone(monkeypatch: pytest.MonkeyPatch, weights: tuple[float, ...]) -> None:
    with emulated(monkeypatch):
        for rows, setting in ((67, "dot"), (7, "cos")):
            call = CONTRAST.make(Shape(rows, 12), CONTRAST.settings[setting], 0)
            compare(CONTRAST, call, weights=weights)


@pytest.mark.parametrize("rows", [2, 5, 130])
def test_ties_of_maxima(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Many equal maxima: each gradient goes where torch puts it."""
    generator = torch.Generator().manual_seed(rows)
    call = Call({n: torch.randint(-1, 2, (rows, 3), generator=generator).double() for n in VIEWS})
    for weights in ((0.0, 0.0, 1.0), (0.5, 0.75, 1.125)):
        truth = run(CONTRAST, call, "torch", torch.float64, weights=weights)
        with emulated(monkeypatch, "random"):
            found = [run(CONTRAST, call, "native", dtype, weights=weights) for dtype in FLOATS]
        assert_close64(found[1], truth, 1e-13)
        for name, expected in truth.items():
            assert largest(found[0][name].double() - expected) <= 1e-5 * largest(expected)


@pytest.mark.parametrize("shape", [(129, 32), (300, 24), (1030, 16)])
def test_rounding_does_not_grow_with_the_rows(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """At most twice torch's error, with no allowance for the size of the logits."""
    settings = {"cl1": shape[0] < 1000}  # fewer strips where they are long
    for op, given in ((CONTRAST, settings), (INFO_NCE, {})):
        call = op.make(Shape(*shape), given, 0)
        with emulated(monkeypatch):
            native = run(op, call, "native", torch.float32)
        plain = ([run(op, call, "torch", dtype)] for dtype in FLOATS)
        assert_accurate([native], *plain, norm="rms")  # the largest of many errors is chance


@pytest.mark.parametrize("rows", [2, 3, 66, 300])
def test_equal_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Everything ties, and a gradient is a sum of equal terms: all roundings point one way.

    A chain of additions may be off by one rounding a term: of 64 in a tile, then of the tiles of at
    most five strips.
    """
    call = CONTRAST.make(Shape(rows, 4, 1.0, "equal"), {}, 0)
    truth = run(CONTRAST, call, "torch", torch.float64)
    with emulated(monkeypatch):
        assert_close64(run(CONTRAST, call, "native", torch.float64), truth, 1e-13)
        native = run(CONTRAST, call, "native", torch.float32)
    additions = 64 + 5 * (rows // 64 + 1)
    for name, expected in truth.items():
        bound = additions * torch.finfo(torch.float32).eps * max(largest(expected), 1e-2)
        assert largest(native[name].double() - expected) <= bound


@pytest.mark.parametrize("setting", ["dot", "cos"])
def test_tf32_products(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    call = CONTRAST.make(Shape(70, 24, 2.0), CONTRAST.settings[setting], 0)
    truth = run(CONTRAST, call, "torch", torch.float64)
    with emulated(monkeypatch, "random", tf32=True):
        native = run(CONTRAST, call, "native", torch.float32)
    away = [largest(native[name].double() - x) / largest(x) for name, x in truth.items()]
    assert max(away) < 2e-2
    assert max(away) > 1e-5, "the tensor-core path did not run"


def test_nan_propagates(monkeypatch: pytest.MonkeyPatch) -> None:
    call = CONTRAST.make(Shape(70, 16), {}, 0)
    call.tensors["z2"][33, 5] = torch.nan
    with emulated(monkeypatch):
        cl1, cl2, regulariser, *grads = run(CONTRAST, call, "native", torch.float32).values()
    assert cl1.isfinite()
    assert cl2.isnan() and regulariser.isnan()
    assert grads[2].isnan().any() and grads[3].isnan().all()
