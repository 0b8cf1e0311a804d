"""The checks of the conformance suite, each of one op on the backend "native" of one device.

test_suite.py runs them on every instruction set and on CUDA, tests/cuda_emulation on emulated
kernels.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal.optests import aot_autograd_check
from torch.utils._python_dispatch import TorchDispatchMode

from .accuracy import assert_accurate, assert_close64, assert_same_bits
from .op_case import Bad, Call, OpCase, Results, outputs_of, run
from .op_cases import OPS

FLOATS = (torch.float32, torch.float64)
THREADS = (1, 2, 3, 8)


@functools.lru_cache(maxsize=200)
def reference(
    name: str, shape: str, setting: str, draw: int, dtype: torch.dtype, device: str = "cpu"
) -> Results:
    """What plain torch finds; the same for every instruction set."""
    op = OPS[name]
    return run(op, op.call(shape, setting, draw), "torch", dtype, device)


def check_values(op: OpCase, shape: str, setting: str, device: str = "cpu") -> None:
    """Values and gradients in both precisions."""
    case = (op.name, shape, setting)
    if op.exact:
        for dtype in FLOATS:
            found = run(op, op.call(shape, setting), "native", dtype, device)
            assert_same_bits(found, reference(*case, 0, dtype))
        return
    call = op.call(shape, setting)
    found = run(op, call, "native", torch.float64, device)
    assert_close64(found, reference(*case, 0, torch.float64), op.tolerance(call))
    if op.float32(op.shapes[shape]) and (op.few is None or setting in op.few):
        check_float32(op, shape, setting, device)


def check_float32(
    op: OpCase, shape: str, setting: str, device: str = "cpu", *, logit: float | None = None
) -> None:
    """The kernel in float32 errs at most twice as much as torch in float32 on that device."""
    case = (op.name, shape, setting)
    draws = range(op.draws(op.shapes[shape]))
    calls = [op.call(shape, setting, draw) for draw in draws]
    native = [run(op, call, "native", torch.float32, device) for call in calls]
    torch32 = [reference(*case, draw, torch.float32, device) for draw in draws]
    truth = [reference(*case, draw, torch.float64) for draw in draws]
    assert_accurate(
        native,
        torch32,
        truth,
        norm=op.norm,
        logit=calls[0].logit if logit is None else logit,
        sizes=lambda sizes: op.sizes(sizes, calls[0], device),
    )


def compare(op: OpCase, call: Call, device: str = "cpu", **options: Any) -> None:
    """Values and gradients of a call without a name."""
    truth = run(op, call, "torch", torch.float64, **options)
    torch32 = run(op, call, "torch", torch.float32, device, **options)
    native = run(op, call, "native", torch.float32, device, **options)
    assert_accurate([native], [torch32], [truth], logit=call.logit)
    native = run(op, call, "native", torch.float64, device, **options)
    assert_close64(native, truth, op.tolerance(call))


def check_threads(op: OpCase, shape: str, setting: str) -> None:
    """The same bits on any number of threads."""
    call = op.call(shape, setting)
    before, results = torch.get_num_threads(), []
    try:
        for count in THREADS:
            torch.set_num_threads(count)
            results.append(run(op, call, "native", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        assert_same_bits(other, results[0])


def subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All subsets of a few inputs; of many each one alone, all but the first, and none."""
    if len(names) <= 4:
        for size in range(len(names)):
            yield from combinations(names, size)
        return
    yield ()
    yield from ((name,) for name in names)
    yield tuple(names[1:])


def check_some_gradients(op: OpCase, shape: str, setting: str, device: str = "cpu") -> None:
    """A gradient has the bits it has among all; so has the value, where none is wanted."""
    call = op.call(shape, setting)
    for dtype in FLOATS:
        full = run(op, call, "native", dtype, device)
        for wanted in subsets(call.floating):
            found = run(op, call, "native", dtype, device, wanted=wanted)
            assert {f"d {name}" for name in wanted} < found.keys()
            assert_same_bits(found, full)


def check_gradient_twice(op: OpCase, shape: str, setting: str, device: str = "cpu") -> None:
    """A backward pass leaves what it needs, and changes nothing it was given."""
    tensors = leaves(op.call(shape, setting), torch.float32, device)
    kept = {name: x.detach().clone() for name, x in tensors.items()}
    total = weighted(op, tensors, op.call(shape, setting).settings)
    wanted = [x for x in tensors.values() if x.requires_grad]
    once = torch.autograd.grad(total, wanted, retain_graph=True)
    again = torch.autograd.grad(total, wanted)
    assert all(a.equal(b) for a, b in zip(once, again, strict=True))
    assert all(x.detach().equal(kept[name]) for name, x in tensors.items())


def check_second_derivative(op: OpCase, shape: str, setting: str, device: str = "cpu") -> None:
    """The derivative of each gradient is refused, not silently zero."""
    call = op.call(shape, setting)
    for name in call.floating:
        tensors = leaves(call, torch.float64, device)
        total = weighted(op, tensors, call.settings)
        (gradient,) = torch.autograd.grad(total, tensors[name], create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated"):
            (total + gradient.square().sum()).backward()


def leaves(call: Call, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """The call's tensors; the floating ones want a gradient."""
    tensors = {}
    for name, x in call.tensors.items():
        wanted = name in call.floating
        x = x.to(device, dtype if wanted else x.dtype).detach().clone()
        tensors[name] = x.requires_grad_(wanted)
    return tensors


def weighted(op: OpCase, tensors: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    """A number made of all outputs, not linear in them."""
    outputs = outputs_of(op, tensors, settings, "native")
    return torch.stack([x.square().sum() for x in outputs]).sum()


def check_gradcheck(op: OpCase, setting: str) -> None:
    """Gradients against differences of values, in float64."""
    call = op.make(op.tiny, op.settings[setting], 0)
    names, others = call.floating, dict(call.tensors)
    inputs = [others.pop(name).requires_grad_() for name in names]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        tensors = {**others, **dict(zip(names, values, strict=True))}
        ordered = {name: tensors[name] for name in call.tensors}
        return outputs_of(op, ordered, call.settings, "native")

    torch.autograd.gradcheck(function, inputs)


def transposed(x: Tensor) -> Tensor:
    """The same numbers in other strides: columns first, or every second number."""
    if x.dim() < 2:
        return torch.stack([x, x], -1)[..., 0]
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def shifted(x: Tensor) -> Tensor:
    """The same numbers, contiguous but where no vector may be loaded at once."""
    return torch.cat((x.new_zeros(1), x.flatten()))[1:].view(x.shape)


def widened(x: Tensor) -> Tensor:
    """The same numbers with a gap behind each row."""
    if x.dim() == 0:
        return x
    return torch.cat([x, torch.ones_like(x)], -1)[..., : x.shape[-1]]


def backwards(x: Tensor) -> Tensor:
    """The same numbers, a row spread over a longer one: strides of two."""
    return x.repeat_interleave(2, 0)[::2] if x.dim() else x


LAYOUTS = {f.__name__: f for f in (transposed, shifted, widened, backwards)}


def check_strides(
    op: OpCase, shape: str, setting: str, layout: str, backend: str = "native", device: str = "cpu"
) -> None:
    """Strides and addresses of the inputs and of the arriving gradients change nothing."""
    call = op.call(shape, setting)
    for dtype in FLOATS:
        plain = run(op, call, backend, dtype, device)
        strange = run(op, call, backend, dtype, device, layout=LAYOUTS[layout])
        if backend == "native":
            assert_same_bits(strange, plain)
        elif dtype == torch.float64:  # torch may add in another order
            for name, x in plain.items():
                torch.testing.assert_close(strange[name], x, rtol=1e-11, atol=1e-11)


class Recorder(TorchDispatchMode):
    """Keeps the operators of the package that are called, with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "mclrec_fast":
            assert not kwargs
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def check_opcheck(
    op: OpCase, shape: str, setting: str, wanted: Sequence[str] | None, device: str = "cpu"
) -> None:
    """Schema, fake kernel, autograd and dispatch of every operator behind the public function."""
    call = op.call(shape, setting)
    with Recorder() as recorder:
        run(op, call, "native", torch.float64, device, wanted=wanted)
    names = [func.name() for func, _ in recorder.calls]
    gradients = op.differentiable and wanted != ()
    assert len(names) == len(set(names)) == (2 if gradients else 1), names
    outputs = len(outputs_of(op, leaves(call, torch.float64, device), call.settings, "native"))
    for func, arguments in recorder.calls:
        backward = func.name().endswith("_backward")
        with torch.set_grad_enabled(not backward):  # a second derivative is refused
            copied = torch.utils._pytree.tree_map(leaf, arguments)
            torch.library.opcheck(func, copied, test_utils=WITHOUT_DISPATCH)
            check_dispatch(func, copied, None if backward else outputs)


WITHOUT_DISPATCH = ("test_schema", "test_autograd_registration", "test_faketensor")


def check_dispatch(func: Any, arguments: tuple[Any, ...], outputs: int | None) -> None:
    """`test_aot_dispatch_dynamic` of opcheck on the outputs that are not the kernel's own state.

    State may hold padding that nothing writes or reads.
    """

    def visible(*arguments: Any) -> Any:
        results = func(*arguments)
        return results if isinstance(results, Tensor) else tuple(results[:outputs])

    aot_autograd_check(
        visible, arguments, {}, dynamic=True, check_gradients="auto", copy_inputs=True
    )


def leaf(x: Any) -> Any:
    """A tensor without its history."""
    if not isinstance(x, Tensor):
        return x
    return x.detach().requires_grad_(x.requires_grad and torch.is_grad_enabled())


def check_refused(op: OpCase, bad: Bad, backend: str, device: str = "cpu") -> None:
    """The error of a bad argument: its type, and what it says."""
    good = op.call(*op.properties[0])
    arguments = {**good.tensors, **good.settings, "backend": backend, **bad.change}
    arguments = {
        name: x.to(device) if isinstance(x, Tensor) and x.device.type == "cpu" else x
        for name, x in arguments.items()
    }
    with pytest.raises(bad.error, match=bad.message) as caught:
        op.function(**arguments)
    assert caught.type is bad.error


def bad_tensors(op: OpCase) -> Iterable[tuple[str, Bad]]:
    """For (eight) tensors of an op: another type, other dimensions, another device."""
    good = op.call(*op.properties[0]).tensors
    for name, x in list(good.items())[:8]:
        said = op.said(name)
        half = x.half() if x.is_floating_point() else x.to(torch.int16)
        yield f"{name} of another type", Bad({name: half}, TypeError, f"{said} must be")
        yield f"{name} is no tensor", Bad({name: x.tolist()}, TypeError, f"{said} must be")
        yield f"{name} of more dimensions", Bad({name: x[None]}, ValueError, f"{said} must have")
        elsewhere = {name: x.to("meta")}
        yield f"{name} elsewhere", Bad(elsewhere, ValueError, f"^{op.name}: .*one device.* meta")
