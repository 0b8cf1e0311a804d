"""contrast and info_nce: each loss alone, ties, NaN, memory. The rest is in tests/conformance."""

import subprocess
import sys

import pytest
import torch

from mclrec_fast import _native
from mclrec_fast.ops import contrast, info_nce

from ..conformance.accuracy import assert_close64, largest
from ..conformance.checks import compare
from ..conformance.contrasts import CONTRAST, INFO_NCE, Shape
from ..conformance.op_case import Call, run

ALONE = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
FOUR, TWO = ("h1", "h2", "z1", "z2"), ("a", "b")


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("weights", ALONE)
@pytest.mark.parametrize("shape", ["three rows", "uneven groups"])
@pytest.mark.parametrize("setting", ["dot", "cos"])
def test_each_loss_alone(shape: str, setting: str, weights: tuple[float, ...]) -> None:
    compare(CONTRAST, CONTRAST.call(shape, setting), weights=weights)


@pytest.mark.usefixtures("kernel")
def test_encodings_large_and_augmented_views_of_unit_length() -> None:
    """As in training: |h| about 8, |z| = 1, first and second views of a sample alike."""
    call = CONTRAST.make(Shape(256, 64, 8.0), {}, 0)
    h1, h2, z1, z2 = call.tensors.values()
    h2 = (h1 + 0.5 * h2).float().double()
    z1, z2 = ((x / x.norm(dim=1, keepdim=True)).float().double() for x in (z1, z1 + z2))
    rows = torch.cat((h1, h2, z1, z2))
    views = dict(zip(FOUR, (h1, h2, z1, z2), strict=True))
    compare(CONTRAST, Call(views, {}, largest(rows @ rows.T)))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("rows", [2, 5, 130, 300])
def test_ties_of_maxima(rows: int) -> None:
    """Small integers: exact products, many equal maxima; each gradient goes where torch puts it."""
    generator = torch.Generator().manual_seed(rows)
    views = {n: torch.randint(-1, 2, (rows, 3), generator=generator).double() for n in FOUR}
    for weights in ((0.0, 0.0, 1.0), (0.5, 0.75, 1.125)):
        truth = run(CONTRAST, Call(views), "torch", torch.float64, weights=weights)
        found = run(CONTRAST, Call(views), "native", torch.float64, weights=weights)
        assert_close64(found, truth, 1e-13)
        # The products are exact in float32 too, so its maxima tie in the same places; one gradient
        # in the wrong place would be off by a large part of the whole.
        found = run(CONTRAST, Call(views), "native", torch.float32, weights=weights)
        for name, expected in truth.items():
            assert largest(found[name].double() - expected) <= 1e-5 * largest(expected)


@pytest.mark.usefixtures("kernel")
def test_equal_rows_find_their_positive_by_chance() -> None:
    x = torch.ones(130, 5, requires_grad=True)
    loss = info_nce(x, x, backend="native")
    (grad,) = torch.autograd.grad(loss, x)
    assert float(loss.detach()) == pytest.approx(float(torch.tensor(259.0).log()), rel=1e-6)
    assert torch.allclose(grad, torch.zeros(130, 5), atol=1e-6)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("rows", [40, 1030])
def test_nan_propagates(rows: int) -> None:
    views = CONTRAST.make(Shape(rows, 16), {}, 0).tensors
    views["z2"][33, 5] = torch.nan
    found = run(CONTRAST, Call(views), "native", torch.float32)
    assert found["output 0"].isfinite()
    assert found["output 1"].isnan() and found["output 2"].isnan()
    assert found["d z1"].isnan().any()
    assert found["d z2"].isnan().all()
    views = {"a": views["h1"], "b": views["z2"]}
    assert all(
        x.isnan().all() for x in run(INFO_NCE, Call(views), "native", torch.float32).values()
    )


@pytest.mark.parametrize("setting", CONTRAST.settings)
def test_one_row_has_no_contrast(setting: str, backend: str) -> None:
    for op in (CONTRAST, INFO_NCE):
        call = op.call("one row", setting if setting in op.settings else "dot")
        for x in run(op, call, backend, torch.float32).values():
            assert torch.equal(x, torch.zeros_like(x))


@pytest.mark.usefixtures("kernel")
def test_a_loss_that_is_weighted_by_zero_costs_no_bits() -> None:
    views = [
        x.requires_grad_() for x in CONTRAST.call("one row over a tile", "dot").tensors.values()
    ]
    losses = contrast(*views, backend="native")
    first = torch.autograd.grad(losses[1], views, retain_graph=True)
    second = torch.autograd.grad(losses[1] + 0.0 * losses[2], views)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


MEMORY = """
import resource, torch
from mclrec_fast.ops import info_nce
a, b = (torch.randn({rows}, 8, requires_grad=True) for _ in range(2))
info_nce(a[:64], b[:64], backend="native").backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
info_nce(a, b, backend="native").backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not _native.available(), reason=f"no kernels: {_native.why_not()}")
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_grows_with_b_not_its_square() -> None:
    rows = 6000
    command = [sys.executable, "-c", MEMORY.format(rows=rows)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    # One B x B block alone would take 141 000 KiB.
    assert int(result.stdout) < rows * rows * 4 / 1024 / 5
