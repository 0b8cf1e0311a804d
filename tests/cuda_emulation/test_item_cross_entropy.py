"""Emulated CUDA `item_cross_entropy`: rounding, TF32, what is not finite, wrong targets.

This is emulation on a CPU, not a GPU. The rest is in test_conformance.py.
"""

import pytest
import torch

from ..conformance.accuracy import assert_accurate, largest
from ..conformance.catalogue import ITEM_CROSS_ENTROPY as OP
from ..conformance.catalogue import Shape
from ..conformance.op_case import Call, Results, run
from .ops import emulated

SHAPES = {"usual": (70, 300, 64), "width 7": (9, 40, 7), "three pieces wide": (3, 66, 150)}


def call_of(shape: tuple[int, int, int]) -> Call:
    """Logits reach some tens."""
    return OP.make(Shape(*shape), {"size": 2.0 * shape[2] ** 0.5}, 0)


def distances(found: Results, truth: Results) -> list[float]:
    return [largest(found[name].double() - x) / largest(x) for name, x in truth.items()]


@pytest.mark.parametrize("shape", [(1030, 200, 16), (300, 3000, 24)])
def test_rounding_does_not_grow_with_rows_or_items(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    """At most twice torch's error, with no allowance for the size of the logits."""
    call = OP.make(Shape(*shape), {"size": 1.0}, 0)
    with emulated(monkeypatch):
        native = run(OP, call, "native", torch.float32)
    plain = ([run(OP, call, "torch", dtype)] for dtype in (torch.float32, torch.float64))
    assert_accurate([native], *plain)


@pytest.mark.parametrize("name", SHAPES)
def test_tf32_products(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    call = call_of(SHAPES[name])
    with emulated(monkeypatch, "random", tf32=True):
        native = run(OP, call, "native", torch.float32)
    away = distances(native, run(OP, call, "torch", torch.float64))
    assert max(away) < 3e-2
    assert max(away) > 1e-5, "the tensor-core path did not run"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_shows(monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    call = call_of((9, 40, 8))
    call.tensors["h"][3, 2] = bad
    with emulated(monkeypatch):
        assert run(OP, call, "native", torch.float32)["output 0"].isnan()


def test_a_target_outside_the_table_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of((9, 40, 8))
    call.tensors["targets"][5] = 40
    with emulated(monkeypatch):
        assert run(OP, call, "native", torch.float32)["output 0"].isnan()
