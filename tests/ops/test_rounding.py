"""On a CPU with AMX: which ops round in which precision, how far they are then, with which bits.

The ordinary suite asks for float32's own exactness, and kernels that round miss it on purpose. Here
an error is measured by the unit that factors are rounded to, and by its root mean square.
"""

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native, _precision

from ..conformance.accuracy import assert_same_bits
from ..conformance.op_case import Call, OpCase, Results, run
from ..conformance.op_cases import OPS

UNIT = {"bf16": 2.0**-8, "bf16x3": 2.0**-16}
ROUND = ("encode", "item_cross_entropy")
NEVER = [(name, *case) for name in OPS if name not in ROUND for case in OPS[name].properties[:2]]
BOTH = [(name, *case) for name in ROUND for case in OPS[name].properties[:2]]


def cases() -> list[tuple[str, str, str]]:
    """All shapes that say anything in float32, but for classes without a choice."""
    found = []
    for name in ROUND:
        for shape, setting in OPS[name].cases():
            if OPS[name].float32(OPS[name].shapes[shape]) and "one class" not in shape:
                found.append((name, shape, setting))
    return found


def able() -> list[str]:
    return _precision.usable("cpu", "native") if _native.available() else ["float32"]


pytestmark = pytest.mark.skipif(
    "bf16" not in able(), reason=f"rounding: usable here is {', '.join(able())}"
)


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt()) if x.numel() else 0.0


def distances(found: Results, truth: Results) -> dict[str, float]:
    """Root mean squares of errors by those of the results.

    A gradient that is 0 in theory is measured by a tenth of the largest one.
    """
    floor = 0.1 * max(rms(x) for name, x in truth.items() if name.startswith("d "))
    return {
        name: rms(found[name].double() - x) / max(rms(x), floor if name[0] == "d" else 1e-30)
        for name, x in truth.items()
    }


def rounded(op: OpCase, call: Call, word: str, dtype: torch.dtype = torch.float32) -> Results:
    with _precision.rounding(word, "cpu", "native"):
        return run(op, call, "native", dtype)


def differs(found: Results, other: Results) -> bool:
    return any(not torch.equal(found[name], x) for name, x in other.items())


@pytest.mark.parametrize("word", UNIT)
@pytest.mark.parametrize(("name", "shape", "setting"), cases())
def test_it_rounds_and_stays_close(name: str, shape: str, setting: str, word: str) -> None:
    """The same function but for 12 units of rounding, and as many of the logits' as these have."""
    op = OPS[name]
    call = op.call(shape, setting)
    found = rounded(op, call, word)
    away = distances(found, run(op, call, "torch", torch.float64))
    assert max(away.values()) < 12 * UNIT[word] * (1 + call.logit / 4), away
    assert differs(found, run(op, call, "native", torch.float32))
    if word == "bf16":
        assert max(away.values()) > UNIT[word] / 20, away


@pytest.mark.parametrize("word", UNIT)
@pytest.mark.parametrize(("name", "shape", "setting"), NEVER)
def test_all_others_keep_their_bits(name: str, shape: str, setting: str, word: str) -> None:
    op = OPS[name]
    call = op.call(shape, setting)
    assert_same_bits(rounded(op, call, word), run(op, call, "native", torch.float32))


@pytest.mark.parametrize("word", UNIT)
@pytest.mark.parametrize(("name", "shape", "setting"), BOTH)
def test_float64_and_other_sets_never_round(name: str, shape: str, setting: str, word: str) -> None:
    op = OPS[name]
    call = op.call(shape, setting)
    plain = run(op, call, "native", torch.float64)
    assert_same_bits(rounded(op, call, word, torch.float64), plain)
    with _native.use_isa("avx2"):
        plain = run(op, call, "native", torch.float32)
    with _precision.rounding(word, "cpu", "native"), _native.use_isa("avx2"):
        assert _precision.usable("cpu", "native") == ["float32"]
        assert_same_bits(run(op, call, "native", torch.float32), plain)


@pytest.mark.parametrize("word", UNIT)
@pytest.mark.parametrize(
    ("name", "shape", "setting"), [(name, *case) for name in ROUND for case in OPS[name].threads]
)
def test_bits_do_not_depend_on_threads(name: str, shape: str, setting: str, word: str) -> None:
    op = OPS[name]
    call = op.call(shape, setting)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            found.append(rounded(op, call, word))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert_same_bits(other, found[0])
