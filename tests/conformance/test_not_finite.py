"""A random search over shapes, strides, dtypes and values that are not finite.

What plain torch answers with NaN a kernel answers with NaN, in values and gradients, or both raise
the same error. Whether a NaN also reaches tokens that do not see it is left open: kernels multiply
by zeros of their own. MCLREC_FAST_SEARCH=20000 makes it that many calls of each op and kind.
"""

import os
import random
from collections import Counter
from typing import Any

import pytest
import torch

from .checks import FLOATS, LAYOUTS
from .op_case import Call, OpCase, Results, run
from .op_cases import OPS
from .targets import CPU, Target

CALLS = int(os.environ.get("MCLREC_FAST_SEARCH", "30"))
KINDS = {"nan": [torch.nan], "infinite": [torch.inf, -torch.inf], "huge": [1e38, -1e38]}


def cases() -> list[Any]:
    return [
        pytest.param(op, kind, id=f"{op.name}-{kind}")
        for op in OPS.values()
        for kind in KINDS
        if op.call(*op.properties[0]).floating
    ]


@pytest.mark.parametrize("target", CPU)
@pytest.mark.parametrize(("op", "kind"), cases())
def test_nan_is_not_swallowed(op: OpCase, kind: str, target: Target) -> None:
    with target.selected():
        _, wrong = search(op, kind, range(CALLS))
    assert not wrong, f"{len(wrong)} of {CALLS} calls, such as\n" + "\n".join(wrong[:5])


def search(op: OpCase, kind: str, numbers: range) -> tuple[Counter[str], list[str]]:
    """So many random calls with values of a kind: counts, and what disagreed."""
    shapes = [name for name in op.shapes if name in (op.emulated or op.shapes)]
    pairs = [case for case in op.cases() if case[0] in shapes and may_meet(kind, *case)]
    counts: Counter[str] = Counter()
    wrong = []
    for number in numbers:
        chance = random.Random(number)
        case, dtype = chance.choice(pairs), chance.choice(FLOATS)
        layout = chance.choice([*LAYOUTS])
        call, places = spoilt(op.call(*case, number), KINDS[kind], chance)
        torchs, native = (answer(op, call, b, dtype, layout) for b in ("torch", "native"))
        problem = disagreement(torchs, native, nan=kind == "nan")
        if problem and kind == "huge" and not isinstance(torchs, type):
            problem = firm(op, call, places, dtype, layout, torchs, native)
        counts["disagreement" if problem else "agreement"] += 1
        if problem:
            wrong.append(f"{op.name}, {kind} {number}: {case}, {dtype}, {layout}: {problem}")
    return counts, wrong


def may_meet(kind: str, _shape: str, setting: str) -> bool:
    """Torch rounds GELU to 0 far below 0, and 0 times infinity is NaN; truth is an infinity."""
    return kind == "nan" or setting != "saturated"


Places = list[tuple[str, int]]


def spoilt(call: Call, values: list[float], chance: random.Random) -> tuple[Call, Places]:
    """The call with one to three numbers of its floating tensors replaced, and which."""
    places = []
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(call.floating)
        tensor = call.tensors[name]
        if tensor.numel():
            place = chance.randrange(tensor.numel())
            tensor.view(-1)[place] = chance.choice(values)
            places.append((name, place))
    return call, places


def answer(
    op: OpCase, call: Call, backend: str, dtype: torch.dtype, layout: str
) -> Results | type[Exception]:
    """Results and gradients, or the type of the error."""
    try:
        return run(op, call, backend, dtype, layout=LAYOUTS[layout])
    except Exception as error:
        return type(error)


def disagreement(
    torchs: Results | type[Exception], native: Results | type[Exception], *, nan: bool
) -> str:
    """Who raises alone, or what torch answers with NaN and the kernel with a number.

    With `nan`, where NaN alone went in, infinities are numbers.
    """
    if isinstance(torchs, type) or isinstance(native, type):
        return "" if torchs == native else f"{said(torchs)} against {said(native)}"
    for name, x in torchs.items():
        if not x.is_floating_point():
            continue
        y = native[name]
        swallowed = x.isnan() & (~y.isnan() if nan else y.isfinite())
        if swallowed.any():
            return f"{name}: {int(swallowed.sum())} of {int(x.isnan().sum())} NaN swallowed"
    return ""


def firm(
    op: OpCase,
    call: Call,
    places: Places,
    dtype: torch.dtype,
    layout: str,
    torchs: Results,
    native: Results,
) -> str:
    """The disagreement where no infinity went in, unless torch alone overflows.

    A kernel's number is no fault where it is the true one, as float64 finds it, or where torch
    overflows by so little that values half as large would not, and the order of a sum decides.
    """
    truth = answer(op, call, "torch", torch.float64, layout)
    halved = Call({n: x.clone() for n, x in call.tensors.items()}, call.settings, call.logit)
    for name, place in places:
        halved.tensors[name].view(-1)[place] *= 0.5
    less = answer(op, halved, "torch", dtype, layout)
    assert isinstance(truth, dict) and isinstance(less, dict)
    left = {}
    for name, x in torchs.items():
        if x.is_floating_point():
            y, z = native[name].double(), truth[name]
            true = (y - z).abs() <= 1e-3 * z.abs().clamp_min(1.0)
            left[name] = torch.where(true | ~less[name].isnan(), 0.0, x)
    return disagreement(left, native, nan=False)


def said(answer: Results | type[Exception]) -> str:
    return answer.__name__ if isinstance(answer, type) else "an answer"
