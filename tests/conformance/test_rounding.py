"""Products of rounded factors: the two ops that have them, both precisions, with AMX and without.

What a precision may err is stated here, beside what float32 torch errs: so many units of its last
place (2^-17 for two bf16 numbers, 2^-9 for one) of a result's size, and of the largest logit where
results are functions of exponentials.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mclrec_fast import _native, _precision
from mclrec_fast._precision import usable

from . import checks
from .accuracy import Results, assert_accurate, assert_same_bits, size
from .op_case import OpCase, run
from .op_cases import OPS

UNIT = {"bf16x3": 2.0**-17, "bf16": 2.0**-9, "bf16 without AMX": 2.0**-9}
# The largest seen: 5.4 and 13.2 (gradients of three narrow layers), .17 and .56 (two classes).
ALLOWED = {
    ("encode", "bf16x3"): 7.0,
    ("encode", "bf16"): 16.0,
    ("encode", "bf16 without AMX"): 16.0,
    ("item_cross_entropy", "bf16x3"): 0.25,
    ("item_cross_entropy", "bf16"): 0.75,
    ("item_cross_entropy", "bf16 without AMX"): 0.75,
}
ROUNDED = ("encode", "item_cross_entropy")


pytestmark = pytest.mark.skipif(
    not _native.available() or "bf16" not in usable("cpu", "native"),
    reason="no bf16 on this CPU",
)
AMX = _native.available() and "bf16x3" in usable("cpu", "native")
no_amx = pytest.mark.skipif(not AMX, reason="no AMX on this CPU")
PRECISIONS = [
    pytest.param("bf16x3", marks=no_amx),
    pytest.param("bf16", marks=no_amx),
    "bf16 without AMX",
]


@contextmanager
def rounding(precision: str) -> Iterator[None]:
    """Within it the kernels round their factors so."""
    module: Any = _native._cpu.module
    precision, *without = precision.split(" without ")
    module.allow_tiles(not without)
    try:
        with _precision.rounding(precision, "cpu", "native"):
            yield
    finally:
        module.allow_tiles(True)


def cases() -> list[Any]:
    return [
        pytest.param(op, shape, setting, id=f"{op.name}-{shape}-{setting}")
        for op in (OPS[name] for name in ROUNDED)
        for shape, setting in op.cases()
        if op.float32(op.shapes[shape]) and (op.few is None or setting in op.few)
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("op", "shape", "setting"), cases())
def test_values(op: OpCase, shape: str, setting: str, precision: str) -> None:
    calls = [op.call(shape, setting, draw) for draw in range(op.draws(op.shapes[shape]))]
    torch32, truth = (
        [checks.reference(op.name, shape, setting, draw, dtype) for draw in range(len(calls))]
        for dtype in checks.FLOATS
    )
    with rounding(precision):
        rounded = [run(op, call, "native", torch.float32) for call in calls]
    units = ALLOWED[op.name, precision] * UNIT[precision] / torch.finfo(torch.float32).eps
    assert_accurate(
        rounded,
        torch32,
        truth,
        norm=op.norm,
        logit=units * (1.0 + calls[0].logit) - 1.0,
        sizes=lambda sizes: op.sizes(sizes, calls[0], "cpu"),
    )


@no_amx
@pytest.mark.parametrize("name", ROUNDED)
def test_each_precision_is_another(name: str) -> None:
    """bf16 errs about 2^8 times as much as bf16x3, and that more than float32."""
    op = OPS[name]
    case = op.properties[1]
    truth = checks.reference(name, *case, 0, torch.float64)
    errors = {}
    for precision in ("float32", *UNIT):
        with rounding(precision):
            found = run(op, op.call(*case), "native", torch.float32)
        errors[precision] = size(found["output 0"].double() - truth["output 0"], "rms")
    assert errors["bf16x3"] > 2 * errors["float32"]
    assert errors["bf16"] > 30 * errors["bf16x3"]
    assert errors["bf16 without AMX"] == pytest.approx(errors["bf16"], rel=0.2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ROUNDED)
def test_bits_do_not_depend_on_threads(name: str, precision: str) -> None:
    op = OPS[name]
    with rounding(precision):
        for case in op.threads:
            checks.check_threads(op, *case)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ROUNDED)
def test_gradients_of_some_inputs(name: str, precision: str) -> None:
    op = OPS[name]
    with rounding(precision):
        checks.check_some_gradients(op, *op.properties[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [name for name in OPS if name not in ROUNDED])
def test_other_ops_do_not_round(name: str, precision: str) -> None:
    op = OPS[name]
    call = op.call(*op.properties[0])
    plain = run(op, call, "native", torch.float32)
    with rounding(precision):
        assert_same_bits(run(op, call, "native", torch.float32), plain)


@pytest.mark.parametrize("name", ROUNDED)
def test_float64_and_other_sets_do_not_round(name: str) -> None:
    op = OPS[name]
    call = op.call(*op.properties[0])

    def answers() -> list[Results]:
        found = [run(op, call, "native", torch.float64)]
        with _native.use_isa("avx2"):
            return [*found, run(op, call, "native", torch.float32)]

    plain = answers()
    with rounding("bf16"):
        for rounded, exact in zip(answers(), plain, strict=True):
            assert_same_bits(rounded, exact)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ROUNDED)
def test_nan_is_not_swallowed(name: str, precision: str) -> None:
    op = OPS[name]
    call = op.call(*op.properties[0])
    # In a weight or a row that every result needs.
    spoilt = {"encode": "norm", "item_cross_entropy": "h"}[name]
    call.tensors[spoilt].view(-1)[0] = torch.nan
    with rounding(precision):
        found = run(op, call, "native", torch.float32)
    assert found["output 0"].isnan().any()
    assert found[f"d {spoilt}"].isnan().any()


def test_vectors_have_bf16_alone() -> None:
    module: Any = _native._cpu.module
    with rounding("bf16 without AMX"):
        assert module.usable_precisions() == ["float32", "bf16"]
        with pytest.raises(ValueError, match="bf16x3 cannot be used"):
            module.set_precision("bf16x3")


def test_an_unknown_precision_is_refused() -> None:
    module: Any = _native._cpu.module
    with pytest.raises(ValueError, match="unknown precision fp8"):
        module.set_precision("fp8")
    with _native.use_isa("avx2"):
        assert module.usable_precisions() == ["float32"]
        with pytest.raises(ValueError, match="bf16 cannot be used"):
            module.set_precision("bf16")
