"""The conformance suite (tests/conformance) on emulated CUDA kernels, over the small shapes.

This is emulation on a CPU, not a GPU.
"""

from collections.abc import Iterator

import pytest
import torch

from ..conformance import checks
from ..conformance.op_case import OpCase, run
from ..conformance.op_cases import OPS
from ..conformance.test_suite import of
from .ops import SCHEDULES, emulated

ON_A_GPU = [op for op in OPS.values() if op.on_gpu]
DIFFERENTIABLE = [op for op in ON_A_GPU if op.differentiable]
SMALL = [
    (op, shape, setting) for op in ON_A_GPU for shape, setting in op.cases() if shape in op.emulated
]
# What need not meet every shape: the first of an op's `properties`, and those that are small too.
SOME = [
    (op, *case)
    for op in ON_A_GPU
    for case in op.properties
    if case[0] in op.emulated or case == op.properties[0]
]


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within it the kernels are emulated, block after block."""
    with emulated(monkeypatch):
        yield


@pytest.mark.usefixtures("forward")
@of(SMALL)
def test_values(op: OpCase, shape: str, setting: str) -> None:
    checks.check_values(op, shape, setting)


@of(SOME)
def test_the_same_bits_in_every_order(
    monkeypatch: pytest.MonkeyPatch, op: OpCase, shape: str, setting: str
) -> None:
    """Blocks of threads in three orders: each is right, and no sum depends on which came first."""
    found = []
    for schedule in SCHEDULES:
        with emulated(monkeypatch, schedule):
            checks.check_values(op, shape, setting)
            found.append(run(op, op.call(shape, setting), "native", torch.float32))
    for other in found[1:]:
        checks.assert_same_bits(other, found[0])


@pytest.mark.usefixtures("forward")
@of(case for case in SOME if case[0].differentiable)
def test_gradients(op: OpCase, shape: str, setting: str) -> None:
    checks.check_some_gradients(op, shape, setting)
    checks.check_gradient_twice(op, shape, setting)


@pytest.mark.usefixtures("forward")
@of((op, *op.properties[0]) for op in DIFFERENTIABLE)
def test_second_derivative_is_refused(op: OpCase, shape: str, setting: str) -> None:
    checks.check_second_derivative(op, shape, setting)


@pytest.mark.usefixtures("forward")
@pytest.mark.parametrize("layout", checks.LAYOUTS)
@of(SOME)
def test_strides(op: OpCase, shape: str, setting: str, layout: str) -> None:
    checks.check_strides(op, shape, setting, layout)
