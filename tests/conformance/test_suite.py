"""Every op, over its shapes, on every instruction set and device: what checks.py asks of it.

A test's name ends in op, shape, setting and set: `-k encode` runs one op, `-k avx2` one set,
`-m gpu` what needs a GPU.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch

import mclrec_fast.ops
from mclrec_fast import _native
from mclrec_fast.errors import InputError

from . import checks
from .accuracy import assert_close64
from .op_case import Bad, OpCase, run
from .op_cases import OPS
from .targets import CPU, CUDA, TORCH, TORCH_CUDA, Target

DIFFERENTIABLE = [op for op in OPS.values() if op.differentiable]


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Where the test runs its op, with the instruction set selected."""
    chosen: Target = request.param
    op = request.node.callspec.params.get("op")
    if chosen == Target("native", "cuda") and op is not None and not op.on_gpu:
        pytest.skip(f"{op.name} has no CUDA kernel")
    with chosen.selected():
        yield chosen


def on(*targets: Any) -> pytest.MarkDecorator:
    """Where a test runs; above what it runs, so that a reference serves all sets in turn."""
    return pytest.mark.parametrize("target", targets, indirect=True)


def of(cases: Iterable[tuple[Any, ...]], names: str = "op, shape, setting") -> Any:
    """Parameters of a test, the first of them an op."""
    return pytest.mark.parametrize(
        names, [pytest.param(*case, id="-".join(map(text, case))) for case in cases]
    )


def every_case() -> Iterator[Any]:
    """All cases of all ops; the first of its `properties` is an op's part of the fast subset."""
    for op in OPS.values():
        for case in op.cases():
            marks = [pytest.mark.fast] if case == tuple(op.properties[0]) else []
            yield pytest.param(op, *case, id="-".join((op.name, *case)), marks=marks)


def text(part: Any) -> str:
    """A parameter's name in a test's id."""
    return part.name if isinstance(part, OpCase) else str(part)


def named(kind: str, ops: Iterable[OpCase] = OPS.values()) -> list[tuple[Any, ...]]:
    """Of each op the (shape, setting) listed as `kind`."""
    return [(op, *case) for op in ops for case in getattr(op, kind)]


def test_every_op_is_here() -> None:
    public = {name for name in mclrec_fast.ops.__all__ if name.islower()}
    assert public == set(OPS)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@of(((op,) for op in OPS.values()), "op")
def test_there_is_a_kernel(op: OpCase, device: str) -> None:
    if not _native.available(device):
        pytest.skip(f"no kernels: {_native.why_not(device)}")
    if device == "cpu" or op.on_gpu:
        assert _native.has_kernel(op.name, device)
        assert _native.backend("auto", device, op.name) == "native"


@on(*CPU, CUDA)
@pytest.mark.parametrize("op, shape, setting", list(every_case()))
def test_values(op: OpCase, shape: str, setting: str, target: Target) -> None:
    if op.fused(op.shapes[shape]) and not target.fused:
        pytest.skip("compares bits that only a fused multiply-add has")
    checks.check_values(op, shape, setting, target.device)


@on(TORCH_CUDA)
@of(named("properties"))
def test_the_reference_on_a_gpu(op: OpCase, shape: str, setting: str, target: Target) -> None:
    truth = checks.reference(op.name, shape, setting, 0, torch.float64)
    found = run(op, op.call(shape, setting), "torch", torch.float64, target.device)
    if op.exact:
        checks.assert_same_bits(found, truth)
    else:
        assert_close64(found, truth, 1e-11)


@on(*CPU)
@of(named("threads"))
def test_bits_do_not_depend_on_threads(
    op: OpCase, shape: str, setting: str, target: Target
) -> None:
    checks.check_threads(op, shape, setting)


@on(CUDA)
@of(named("threads"))
def test_the_same_bits_twice(op: OpCase, shape: str, setting: str, target: Target) -> None:
    """No sum depends on which block of threads came first."""
    for dtype in checks.FLOATS:
        call = op.call(shape, setting)
        once, again = (run(op, call, "native", dtype, target.device) for _ in range(2))
        checks.assert_same_bits(again, once)


@on(*CPU, CUDA)
@of(named("properties", DIFFERENTIABLE))
def test_gradients_of_some_inputs(op: OpCase, shape: str, setting: str, target: Target) -> None:
    checks.check_some_gradients(op, shape, setting, target.device)


@on(*CPU, CUDA)
@of(named("properties", DIFFERENTIABLE))
def test_gradient_twice(op: OpCase, shape: str, setting: str, target: Target) -> None:
    checks.check_gradient_twice(op, shape, setting, target.device)


@on(*CPU, CUDA)
@of((op, *op.properties[0]) for op in DIFFERENTIABLE)
def test_second_derivative_is_refused(op: OpCase, shape: str, setting: str, target: Target) -> None:
    checks.check_second_derivative(op, shape, setting, target.device)


@on(*CPU)
@of(((op, s) for op in DIFFERENTIABLE for s in op.few or op.settings), "op, setting")
def test_gradcheck(op: OpCase, setting: str, target: Target) -> None:
    checks.check_gradcheck(op, setting)


@on(*CPU, CUDA)
@of(named("properties", [op for op in OPS.values() if not op.differentiable]))
def test_no_gradient_is_asked_for(op: OpCase, shape: str, setting: str, target: Target) -> None:
    call = op.call(shape, setting)
    tensors = checks.leaves(call, torch.float32, target.device)
    outputs = checks.outputs_of(op, tensors, call.settings, "native")
    assert not any(x.requires_grad for x in outputs)


@pytest.mark.parametrize("layout", checks.LAYOUTS)
@on(*CPU, TORCH, CUDA)
@of(named("properties"))
def test_strides(op: OpCase, shape: str, setting: str, target: Target, layout: str) -> None:
    checks.check_strides(op, shape, setting, layout, target.backend, target.device)


@on(CPU[0], CUDA)
@of(
    [
        (op, *case, wanted)
        for op, *case in named("properties")
        for wanted in (("all", "first", "none") if op.differentiable else ("none",))
    ],
    "op, shape, setting, wanted",
)
def test_opcheck(op: OpCase, shape: str, setting: str, wanted: str, target: Target) -> None:
    names = {"all": None, "none": (), "first": op.call(shape, setting).floating[:1]}[wanted]
    checks.check_opcheck(op, shape, setting, names, target.device)


def bad_arguments() -> Iterator[tuple[OpCase, str, Bad]]:
    """What each op lists, and what holds for all."""
    for op in OPS.values():
        for number, bad in enumerate(op.bad):
            yield op, f"{number} {'and'.join(bad.change)}", bad
        for name, bad in checks.bad_tensors(op):
            yield op, name, bad
        yield op, "backend", Bad({"backend": "numpy"}, InputError, "backend='numpy' is unknown")


@on(TORCH, CPU[0], CUDA, TORCH_CUDA)
@pytest.mark.parametrize(
    ("op", "bad"),
    [pytest.param(op, bad, id=f"{op.name}-{name}") for op, name, bad in bad_arguments()],
)
def test_bad_arguments(op: OpCase, bad: Bad, target: Target) -> None:
    if bad.of_values and target.device == "cuda":
        pytest.skip("the host does not look at values on a device")
    checks.check_refused(op, bad, target.backend, target.device)
