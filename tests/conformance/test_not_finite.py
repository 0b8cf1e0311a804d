"""A random search over shapes, strides, dtypes and values that are not finite.

What plain torch answers with NaN a kernel answers with NaN, in values and gradients, or both raise
the same error. MCLREC_FAST_SEARCH=20000 makes it that many calls of each op and kind.
"""

import os
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from .checks import FLOATS, LAYOUTS
from .op_case import Call, OpCase, Results, run
from .op_cases import OPS
from .targets import CPU, Target

CALLS = int(os.environ.get("MCLREC_FAST_SEARCH", "30"))
KINDS = {"nan": [torch.nan], "infinite": [torch.inf, -torch.inf], "huge": [1e38, -1e38]}
# What disagrees. Plain torch multiplies what a mask hides by 0, and 0 times NaN is NaN: there a NaN
# reaches tokens that do not see it, which is torch's mistake and not the kernel's.
LEAKS = "plain torch lets NaN and infinities reach tokens that do not see them"
OVERFLOW = "where float32 overflows, torch finds NaN and the kernel a number"
KNOWN = {
    ("encode", "nan"): f"{LEAKS}; the last layer's key bias gets 0 from the kernel",
    ("encode", "infinite"): f"{LEAKS}; the last layer's key bias gets 0 from the kernel",
    ("encode", "huge"): OVERFLOW,
    ("packed_attention", "nan"): LEAKS,
    ("packed_attention", "infinite"): LEAKS,
    ("packed_attention", "huge"): OVERFLOW,
    ("augmenter", "huge"): OVERFLOW,
    ("contrast", "huge"): f"{OVERFLOW} (R), or torch infinity and the kernel NaN (L_cl2)",
}


def cases() -> list[Any]:
    found = []
    for op in OPS.values():
        for kind in KINDS if op.call(*op.properties[0]).floating else ():
            reason = KNOWN.get((op.name, kind))
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            found.append(pytest.param(op, kind, id=f"{op.name}-{kind}", marks=marks))
    return found


@pytest.mark.parametrize("target", CPU[-1:])
@pytest.mark.parametrize(("op", "kind"), cases())
def test_nan_is_not_swallowed(op: OpCase, kind: str, target: Target) -> None:
    shapes = [name for name in op.shapes if name in (op.emulated or op.shapes)]
    pairs = [case for case in op.cases() if case[0] in shapes]
    wrong = []
    with target.selected():
        for number in range(CALLS):
            chance = random.Random(number)
            case, dtype = chance.choice(pairs), chance.choice(FLOATS)
            layout = chance.choice([*LAYOUTS])
            call = spoilt(op.call(*case, number), KINDS[kind], chance)
            answers = [answer(op, call, b, dtype, layout) for b in ("torch", "native")]
            if problem := disagreement(*answers):
                wrong.append(f"call {number}: {case}, {dtype}, {layout}: {problem}")
    assert not wrong, f"{len(wrong)} of {CALLS} calls, such as\n" + "\n".join(wrong[:5])


def spoilt(call: Call, values: list[float], chance: random.Random) -> Call:
    """The call with one to three numbers of its floating tensors replaced."""
    for _ in range(chance.randint(1, 3)):
        tensor = call.tensors[chance.choice(call.floating)]
        if tensor.numel():
            tensor.view(-1)[chance.randrange(tensor.numel())] = chance.choice(values)
    return call


def answer(
    op: OpCase, call: Call, backend: str, dtype: torch.dtype, layout: str
) -> Results | type[Exception]:
    """Results and gradients, or the type of the error."""
    try:
        return run(op, call, backend, dtype, layout=LAYOUTS[layout])
    except Exception as error:
        return type(error)


def disagreement(torchs: Results | type[Exception], native: Results | type[Exception]) -> str:
    """What torch answers with NaN and the kernel with a number, or who raises alone."""
    if isinstance(torchs, type) or isinstance(native, type):
        return "" if torchs == native else f"{said(torchs)} against {said(native)}"
    for name, x in torchs.items():
        swallowed = x.isnan() & ~native[name].isnan() if x.is_floating_point() else Tensor([])
        if swallowed.any():
            return f"{name}: {int(swallowed.sum())} of {int(x.isnan().sum())} NaN swallowed"
    return ""


def said(answer: Results | type[Exception]) -> str:
    return answer.__name__ if isinstance(answer, type) else "an answer"
