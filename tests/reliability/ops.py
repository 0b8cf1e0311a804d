"""Random calls of the ops, valid and hostile: no crash, and both backends agree.

Shapes, strides, types and numbers are drawn; a hostile call has an argument replaced. Values that
are not finite are the matter of tests/conformance/test_not_finite.py.
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.conformance.accuracy import assert_accurate, assert_close64
from tests.conformance.checks import FLOATS, LAYOUTS
from tests.conformance.op_case import Call, OpCase, Results, run

LOOSE = 2e-3  # float32 of both backends, beside the largest number; the suite proper is strict
SMALL = 3000  # numbers in a tensor
Weights = Sequence[float] | None  # of scalar outputs; None for those of the suite


def random_call(op: OpCase, chance: random.Random, seed: int) -> Call:
    """A call of a small shape, most of its integers drawn anew."""
    names = [name for name in op.shapes if name in (op.emulated or op.shapes)]
    shape, setting = op.shapes[chance.choice(names)], op.settings[chance.choice([*op.settings])]
    for _ in range(3):
        try:
            call = op.make(drawn(shape, chance), setting, seed)
        except (RuntimeError, ValueError, IndexError, AssertionError):
            continue  # the numbers do not make a shape
        if all(x.numel() <= SMALL for x in call.tensors.values()):
            return call
    return op.make(shape, setting, seed)


def drawn(shape: Any, chance: random.Random) -> Any:
    """A shape like this one."""
    if isinstance(shape, bool) or not isinstance(shape, int | list | tuple):
        if not dataclasses.is_dataclass(shape):
            return shape
        values = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape)}
        return dataclasses.replace(
            shape, **{n: drawn(v, chance) for n, v in values.items() if n != "hidden"}
        )
    if isinstance(shape, int):
        return shape if chance.random() < 0.5 else chance.randint(1, max(2, min(2 * shape, 40)))
    if isinstance(shape, list):
        return [drawn(x, chance) for x in shape[: chance.randint(1, len(shape))]] if shape else []
    values = [drawn(x, chance) for x in shape]
    return type(shape)(*values) if hasattr(shape, "_fields") else tuple(values)


def hostile(call: Call, chance: random.Random) -> tuple[Call, str]:
    """The call with one argument replaced by something that may not do, and what it is."""
    tensors, settings = dict(call.tensors), dict(call.settings)
    numbers = [n for n, x in settings.items() if type(x) in (int, float)]
    if numbers and chance.random() < 0.3:
        name = chance.choice(numbers)
        whole = isinstance(settings[name], int)
        values = [0, 1, -1, 2**31, 2**62, -(2**31)] if whole else [0.0, 0.5, 1.0, -0.1, 1e30]
        if name == "k":  # the answer is as large as was asked for
            values = [0, 1, -1, 1000, -(2**31)]
        settings[name] = chance.choice(values)
        return Call(tensors, settings, call.logit), f"{name} = {settings[name]}"
    name = chance.choice([*tensors])
    x = tensors[name]
    changes = {
        "one row less": lambda: x[:-1] if x.dim() else x[None],
        "no rows": lambda: x[:0] if x.dim() else x,
        "twice": lambda: torch.cat([x, x]) if x.dim() else x,
        "one dimension more": lambda: x[None],
        "flat": lambda: x.flatten(),
        "transposed": lambda: x.T if x.dim() == 2 else x,
        "of one number": lambda: x[:1].expand(x.shape) if x.dim() and len(x) else x,
        "another index": lambda: x if x.is_floating_point() or not x.numel() else put(x, chance),
        "another integer type": lambda: x if x.is_floating_point() else x.to(torch.int64),
        "half": lambda: x.half() if x.is_floating_point() else x.to(torch.int16),
        "a list": lambda: x.tolist(),
        "complex": lambda: x.to(torch.complex64),
    }
    what = chance.choice([*changes])
    tensors[name] = changes[what]()
    return Call(tensors, settings, call.logit), f"{name}: {what}"


def put(x: Tensor, chance: random.Random) -> Tensor:
    """Integers with one of them out of the ordinary."""
    x = x.clone()
    worst = 1 if x.dtype == torch.bool else torch.iinfo(x.dtype).max
    values = [0, 1, -1, 2, 50, worst, -worst - 1]
    x.view(-1)[chance.randrange(x.numel())] = chance.choice(values)
    return x


def answer(
    op: OpCase, call: Call, backend: str, dtype: Any, layout: str, weights: Weights = None
) -> Results | Exception:
    """Results and gradients, or the error."""
    tensors = call.tensors
    try:
        if all(isinstance(x, Tensor) for x in tensors.values()):
            return run(op, call, backend, dtype, layout=LAYOUTS[layout], weights=weights)
        outputs = op.function(**tensors, **call.settings, backend=backend)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        return {f"output {i}": x.detach() for i, x in enumerate(outputs)}
    except Exception as error:
        return error


def compare(op: OpCase, call: Call, dtype: Any, layout: str) -> str:
    """What became of a call on both backends."""
    found, expected = (answer(op, call, b, dtype, layout) for b in ("native", "torch"))
    errors = [isinstance(x, Exception) for x in (found, expected)]
    if any(errors):
        assert all(errors), f"native {short(found)}, torch {short(expected)}"
        return "refused by both"
    weights = op.smooth(call)
    if weights is None:
        require_agreement(op, call, dtype, layout, found, expected)
        return "the same answer"
    found, expected = (answer(op, call, b, dtype, layout, weights) for b in ("native", "torch"))
    require_agreement(op, call, dtype, layout, found, expected, weights)
    return "the same answer, one output without a gradient"


def require_agreement(
    op: OpCase,
    call: Call,
    dtype: Any,
    layout: str,
    found: Any,
    expected: Any,
    weights: Weights = None,
) -> None:
    """The same results of both backends."""
    assert found.keys() == expected.keys()
    suspect = False
    for name, x in found.items():
        y = expected[name]
        assert x.shape == y.shape and x.dtype == y.dtype, f"{name}: {x.shape}, {y.shape}"
        if op.exact or not x.is_floating_point():
            assert x.equal(y), f"{name} differs"
        elif dtype == torch.float32 and y.isfinite().all() and y.numel():
            size, off = float(y.abs().max()), float((x - y).abs().max())
            suspect |= not off <= LOOSE * max(1.0, size) * max(1.0, call.logit / 50)
    if suspect:  # both may be far from the truth, as where a row without direction has a cosine
        truth = answer(op, call, "torch", torch.float64, layout, weights)
        assert isinstance(truth, dict), truth
        assert_accurate([found], [expected], [truth], logit=call.logit)
    if (
        dtype == torch.float64
        and not op.exact
        and all(y.isfinite().all() for y in expected.values())
    ):
        assert_close64(found, expected, 100 * op.tolerance(call) * op.condition(call))


def short(found: Any) -> str:
    return repr(found)[:200] if isinstance(found, Exception) else "answers"


def fuzz_op(op: OpCase, number: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """So many random calls of an op, half of them hostile: counts, and what disagreed.

    On one thread: calls this small would spend their time on waking others.
    """
    counts: Counter[str] = Counter()
    wrong = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for case in range(seed, seed + number):
        chance = random.Random(case)
        call, what = random_call(op, chance, case), "valid"
        if chance.random() < 0.5:
            call, what = hostile(call, chance)
        dtype, layout = chance.choice(FLOATS), chance.choice([*LAYOUTS])
        try:
            counts[compare(op, call, dtype, layout)] += 1
        except AssertionError as error:
            counts["disagreement"] += 1
            shapes = {n: tuple(x.shape) for n, x in call.tensors.items() if isinstance(x, Tensor)}
            wrong.append(f"{op.name}, call {case}, {what}, {dtype}, {layout}, {shapes}: {error}")
    torch.set_num_threads(threads)
    return counts, wrong
