"""info_nce: the kernel against the reference, value and gradients, on every ISA."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import info_nce

from .accuracy import assert_accurate, assert_close64, largest

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("info_nce"), reason=f"no kernel: {_native.why_not()}"
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]

# B, D
SHAPES = {
    "one row": (1, 5),
    "two rows": (2, 3),
    "three rows": (3, 16),
    "width 1": (9, 1),
    "width 7": (9, 7),
    "width 8": (9, 8),
    "width 9": (9, 9),
    "width 65": (20, 65),
    "a vector of rows": (16, 16),
    "a vector of rows and one": (17, 16),
    "one tile exactly": (128, 32),
    "one row over a tile": (129, 32),
    "two groups": (256, 64),
    "uneven groups": (300, 24),
    "recomputed, not stored": (1030, 16),
}
# Around the vectors and register tiles of every instruction set.
SHAPES |= {f"rows and width {d}": (d, d) for d in (15, 16, 17, 31, 32, 33)}
SETTINGS = {"dot": ("dot", 1.0), "dot, cold": ("dot", 0.3), "cos": ("cos", 0.2)}
Settings = tuple[str, float]


def inputs(b: int, d: int, size: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views [B, D] in float64 whose dot products are about `size`; float32 holds them."""
    generator = torch.Generator().manual_seed(seed)
    scale = (size / d**0.5) ** 0.5
    a, b_ = (torch.randn(b, d, generator=generator) * scale for _ in range(2))
    return a.double(), b_.double()


def run(
    a: Tensor,
    b: Tensor,
    settings: Settings,
    backend: str,
    dtype: torch.dtype,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """The loss and the gradients of three times it, computed on a device."""
    a, b = (x.detach().to(device, dtype).requires_grad_() for x in (a, b))
    loss = info_nce(a, b, temperature=settings[1], similarity=settings[0], backend=backend)
    return tuple(x.detach().cpu() for x in (loss, *torch.autograd.grad(3.0 * loss, (a, b))))


def compare(a: Tensor, b: Tensor, settings: Settings, device: str = "cpu") -> None:
    truth = run(a, b, settings, "torch", torch.float64)
    torch32 = run(a, b, settings, "torch", torch.float32, device)
    logit = 1.0 if settings[0] == "cos" else max(largest(a @ b.T), largest(a @ a.T))
    logit /= settings[1]
    native = run(a, b, settings, "native", torch.float32, device)
    assert_accurate(native, torch32, truth, logit)
    native = run(a, b, settings, "native", torch.float64, device)
    assert_close64(native, truth, 1e-14 * (10 + logit))


@needs_kernel
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_reference(shape: str, settings: str, isa: str) -> None:
    compare(*inputs(*SHAPES[shape]), SETTINGS[settings])


@needs_kernel
@pytest.mark.parametrize("size", [64.0, 1e4])
@pytest.mark.parametrize("shape", ["two rows", "three rows", "uneven groups"])
def test_large_logits(shape: str, size: float, isa: str) -> None:
    compare(*inputs(*SHAPES[shape], size=size), SETTINGS["dot"])


@needs_kernel
@pytest.mark.parametrize("rows", [9, 300, 1030])
def test_rows_of_very_different_size(rows: int, isa: str) -> None:
    """Maxima of one tile hundreds of powers of two apart: no exponential may serve two rows."""
    a, b = inputs(rows, 8, size=4.0)
    size = torch.logspace(-3, 1.5, rows, dtype=torch.float32).double()[:, None]
    size = size[torch.randperm(rows, generator=torch.Generator().manual_seed(1))]
    compare((a * size).float().double(), (b * size).float().double(), SETTINGS["dot"])


@needs_kernel
def test_equal_rows(isa: str) -> None:
    """All similarities tie: every row finds its positive among 2B - 1 others by chance."""
    x = torch.ones(130, 5, requires_grad=True)
    loss = info_nce(x, x, backend="native")
    (grad,) = torch.autograd.grad(loss, x)
    assert float(loss.detach()) == pytest.approx(float(torch.tensor(259.0).log()), rel=1e-6)
    assert torch.allclose(grad, torch.zeros(130, 5), atol=1e-6)


@needs_kernel
def test_zero_rows_for_cos(isa: str) -> None:
    """A row of zeros has no direction: the reference divides by 1e-8, and so does the kernel."""
    a, b = inputs(5, 4)
    a[2] = 0.0
    compare(a, b, SETTINGS["cos"])


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [40, 300])
def test_one_gradient_only(rows: int, dtype: torch.dtype) -> None:
    views = [x.to(dtype) for x in inputs(rows, 12)]
    both = run(*views, SETTINGS["cos"], "native", dtype)
    for index in range(2):
        tensors = [x.clone() for x in views]
        tensors[index].requires_grad_()
        loss = info_nce(*tensors, temperature=0.2, similarity="cos", backend="native")
        (grad,) = torch.autograd.grad(3.0 * loss, tensors[index])
        assert torch.equal(loss.detach(), both[0])
        assert torch.equal(grad, both[1 + index])
    with torch.no_grad():
        loss = info_nce(*views, temperature=0.2, similarity="cos", backend="native")
    assert torch.equal(loss, both[0])


@needs_kernel
def test_gradient_twice() -> None:
    a, b = (x.requires_grad_() for x in inputs(140, 12))
    loss = info_nce(a, b, backend="native")
    first = torch.autograd.grad(loss, (a, b), retain_graph=True)
    second = torch.autograd.grad(loss, (a, b))
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


@needs_kernel
def test_not_contiguous(isa: str) -> None:
    a, b = (x.float() for x in inputs(18, 24))
    plain = run(a, b, SETTINGS["dot"], "native", torch.float32)
    strange = (a.T.contiguous().T, b.repeat(1, 2)[:, :24])
    assert not strange[0].is_contiguous()
    assert not strange[1].is_contiguous()
    for x, y in zip(run(*strange, SETTINGS["dot"], "native", torch.float32), plain, strict=True):
        assert torch.equal(x, y)


@needs_kernel
@pytest.mark.parametrize("shape", [(9, 5), (300, 24), (1030, 16)])
def test_same_bits_for_any_thread_count(shape: tuple[int, int], isa: str) -> None:
    a, b = inputs(*shape, size=8.0)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(run(a, b, SETTINGS["dot"], "native", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert torch.equal(x, y)


@needs_kernel
@pytest.mark.parametrize("similarity", ["dot", "cos"])
def test_gradcheck(similarity: str) -> None:
    a, b = (x.requires_grad_() for x in inputs(4, 3))
    torch.autograd.gradcheck(
        lambda x, y: info_nce(x, y, temperature=0.7, similarity=similarity, backend="native"),
        (a, b),
    )


@needs_kernel
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, False)])
def test_opcheck(wanted: tuple[bool, bool]) -> None:
    a, b = (x.requires_grad_(want) for x, want in zip(inputs(5, 3), wanted, strict=True))
    torch.library.opcheck(torch.ops.mclrec_fast.info_nce.default, (a, b, 0.5, True, any(wanted)))


@needs_kernel
def test_second_derivative_is_refused() -> None:
    a, b = inputs(5, 3)
    a.requires_grad_()
    loss = info_nce(a, b, backend="native")
    (grad,) = torch.autograd.grad(loss, a, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        (loss + grad.square().sum()).backward()


@needs_kernel
@pytest.mark.parametrize("rows", [40, 1030])
def test_nan_propagates(rows: int, isa: str) -> None:
    a, b = inputs(rows, 16)
    b[33, 5] = torch.nan
    for result in run(a, b, SETTINGS["dot"], "native", torch.float32):
        assert result.isnan().all()


MEMORY = """
import resource, torch
from mclrec_fast.ops import info_nce
a, b = (torch.randn({rows}, 8, requires_grad=True) for _ in range(2))
info_nce(a[:64], b[:64], backend="native").backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
info_nce(a, b, backend="native").backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@needs_kernel
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_grows_with_b_not_its_square() -> None:
    rows = 6000
    command = [sys.executable, "-c", MEMORY.format(rows=rows)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    # One B x B block alone would take 141 000 KiB.
    assert int(result.stdout) < rows * rows * 4 / 1024 / 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_row_has_no_contrast(backend: str) -> None:
    a, b = (x.requires_grad_() for x in inputs(1, 5))
    loss = info_nce(a, b, backend=backend)
    assert float(loss.detach()) == 0.0
    for grad in torch.autograd.grad(loss, (a, b)):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(backend: str) -> None:
    a = torch.randn(4, 3)

    def refused(
        error: type[Exception], match: str, x: Tensor, y: Tensor, **settings: object
    ) -> None:
        with pytest.raises(error, match=match):
            info_nce(x, y, backend=backend, **settings)

    refused(TypeError, "a must be", a.half(), a.half())
    refused(TypeError, "b must be", a, a.double())
    refused(ValueError, "dimension", a[0], a)
    refused(ValueError, "b must have the shape of a", a, a[:3])
    refused(ValueError, "b must have the shape of a", a, a[:, :2])
    refused(ValueError, "empty", a[:0], a[:0])
    refused(ValueError, "one device", a, a.to("meta"))
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        refused(ValueError, "temperature", a, a, temperature=temperature)
    refused(ValueError, "similarity", a, a, similarity="euclid")
    with pytest.raises(Exception, match="backend"):
        info_nce(a, a, backend="numpy")
