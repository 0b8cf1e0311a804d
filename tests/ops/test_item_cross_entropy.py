"""item_cross_entropy: the kernel against the reference, value and gradients, on every ISA."""

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import item_cross_entropy

from .accuracy import assert_accurate, assert_close64, largest

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("item_cross_entropy"), reason=f"no kernel: {_native.why_not()}"
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]

# B, V, D
SHAPES = {
    "one row": (1, 100, 64),
    "two rows": (2, 50, 16),
    "three rows": (3, 50, 16),
    "one class": (5, 1, 8),
    "two classes": (5, 2, 8),
    "width 1": (9, 60, 1),
    "width 7": (9, 60, 7),
    "width 8": (9, 60, 8),
    "width 9": (9, 60, 9),
    "width 65": (33, 70, 65),
    "one tile exactly": (16, 72, 64),
    "one item over a tile": (17, 73, 64),
    "several rows a chunk": (255, 120, 32),
    "two chunks of rows": (257, 120, 32),
    "many tiles a block": (20, 72 * 70 + 5, 16),
    "wide": (31, 100, 200),
}
# Around the vectors and register tiles of every instruction set.
SHAPES |= {f"rows and width {d}": (d, 150 + d, d) for d in (15, 16, 17, 31, 32, 33)}


def inputs(b: int, v: int, d: int, size: float = 1.0, seed: int = 0) -> tuple[Tensor, ...]:
    """Rows h [B, D], items [V, D] in float64 with logits of about `size`, targets [B]."""
    generator = torch.Generator().manual_seed(seed)
    # Exact in float32, so that both precisions see one problem.
    h = torch.randn(b, d, generator=generator).double() * size
    items = (torch.randn(v, d, generator=generator) / d**0.5).double()
    targets = torch.randint(0, v, (b,), generator=generator)
    return h.float().double(), items.float().double(), targets


def run(
    h: Tensor,
    items: Tensor,
    targets: Tensor,
    backend: str,
    dtype: torch.dtype,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """The loss and the gradients of three times it, computed on a device."""
    h, items = (x.detach().to(device, dtype).requires_grad_() for x in (h, items))
    loss = item_cross_entropy(h, items, targets.to(device), backend=backend)
    return tuple(x.detach().cpu() for x in (loss, *torch.autograd.grad(3.0 * loss, (h, items))))


def compare(arguments: tuple[Tensor, ...], device: str = "cpu") -> None:
    """The kernel on a device against the reference."""
    truth = run(*arguments, "torch", torch.float64)
    torch32 = run(*arguments, "torch", torch.float32, device)
    logit = largest(arguments[0] @ arguments[1].T)
    assert_accurate(run(*arguments, "native", torch.float32, device), torch32, truth, logit)
    assert_close64(run(*arguments, "native", torch.float64, device), truth, 1e-14 * (10 + logit))


@needs_kernel
@pytest.mark.parametrize("size", [1.0, 64.0, 1e4])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_reference(shape: str, size: float, isa: str) -> None:
    compare(inputs(*SHAPES[shape], size=size))


@needs_kernel
def test_equal_rows_and_items(isa: str) -> None:
    """All logits tie: loss log V, gradients (1/V - [target]) / B."""
    h, items = torch.ones(6, 9, requires_grad=True), torch.ones(50, 9, requires_grad=True)
    targets = torch.tensor([0, 3, 3, 49, 7, 0])
    loss = item_cross_entropy(h, items, targets, backend="native")
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(torch.log(torch.tensor(50.0))), rel=1e-6)
    expected = torch.full((50,), 1 / 50.0)
    for target in targets:
        expected[target] -= 1 / 6
    assert torch.allclose(items.grad, expected[:, None].expand(50, 9), atol=1e-7)
    assert torch.allclose(h.grad, torch.zeros(6, 9), atol=1e-7)


@needs_kernel
@pytest.mark.parametrize("shape", [(256, 70_000, 1), (17, 1_200_000, 1)])
def test_rows_in_smaller_chunks(shape: tuple[int, int, int]) -> None:
    """More than 64 MB of exponentials for one chunk of 256 rows: the chunk gets fewer rows."""
    assert shape[0] * shape[1] * 4 > 64 << 20
    arguments = inputs(*shape)
    truth = run(*arguments, "torch", torch.float64)
    torch32 = run(*arguments, "torch", torch.float32)
    assert_accurate(run(*arguments, "native", torch.float32), torch32, truth)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_gradient_only(dtype: torch.dtype) -> None:
    h, items, targets = inputs(21, 130, 24)
    both = run(h, items, targets, "native", dtype)
    for index in range(2):
        tensors = [h.to(dtype), items.to(dtype)]
        tensors[index].requires_grad_()
        loss = item_cross_entropy(*tensors, targets, backend="native")
        (grad,) = torch.autograd.grad(3.0 * loss, tensors[index])
        assert torch.equal(loss.detach(), both[0])
        assert torch.equal(grad, both[1 + index])
    with torch.no_grad():
        loss = item_cross_entropy(h.to(dtype), items.to(dtype), targets, backend="native")
    assert torch.equal(loss, both[0])


@needs_kernel
def test_not_contiguous(isa: str) -> None:
    h, items, targets = (x.float() if x.is_floating_point() else x for x in inputs(18, 60, 24))
    plain = run(h, items, targets, "native", torch.float32)
    strange = (h.T.contiguous().T, items.repeat(1, 2)[:, :24], targets.repeat_interleave(2)[::2])
    assert not strange[0].is_contiguous()
    for a, b in zip(run(*strange, "native", torch.float32), plain, strict=True):
        assert torch.equal(a, b)


@needs_kernel
@pytest.mark.parametrize("shape", [(257, 700, 40), (64, 2500, 16), (3, 40, 7)])
def test_same_bits_for_any_thread_count(shape: tuple[int, int, int], isa: str) -> None:
    arguments = inputs(*shape, size=8.0)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(run(*arguments, "native", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@needs_kernel
def test_gradcheck() -> None:
    h, items, targets = inputs(5, 11, 3)
    h.requires_grad_()
    items.requires_grad_()
    torch.autograd.gradcheck(
        lambda a, b: item_cross_entropy(a, b, targets, backend="native"), (h, items)
    )


@needs_kernel
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, False)])
def test_opcheck(wanted: tuple[bool, bool]) -> None:
    h, items, targets = inputs(5, 11, 3)
    h.requires_grad_(wanted[0])
    items.requires_grad_(wanted[1])
    torch.library.opcheck(
        torch.ops.mclrec_fast.item_cross_entropy.default, (h, items, targets, *wanted)
    )


@needs_kernel
def test_second_derivative_is_refused() -> None:
    h, items, targets = inputs(5, 11, 3)
    h.requires_grad_()
    loss = item_cross_entropy(h, items, targets, backend="native")
    (grad,) = torch.autograd.grad(loss, h, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        (loss + grad.square().sum()).backward()


@needs_kernel
@pytest.mark.parametrize("place", ["h", "items"])
def test_nan_propagates(place: str, isa: str) -> None:
    h, items, targets = inputs(40, 300, 16)
    (h if place == "h" else items)[33, 5] = torch.nan
    loss, grad_h, grad_items = run(h, items, targets, "native", torch.float32)
    assert loss.isnan()
    assert grad_h[33].isnan().all()
    assert grad_items.isnan().any()
    if place == "h":
        assert grad_h[:33].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(backend: str) -> None:
    h, items, targets = torch.randn(4, 3), torch.randn(6, 3), torch.tensor([0, 1, 2, 5])

    def refused(error: type[Exception], match: str, *arguments: Tensor) -> None:
        with pytest.raises(error, match=match):
            item_cross_entropy(*arguments, backend=backend)

    refused(TypeError, "h must be", h.half(), items.half(), targets)
    refused(TypeError, "item_embedding must be", h, items.double(), targets)
    refused(TypeError, "targets must be", h, items, targets.int())
    refused(ValueError, "dimension", h[0], items, targets)
    refused(ValueError, "share D", h, items[:, :2], targets)
    refused(ValueError, "share D", h[:0], items, targets[:0])
    refused(ValueError, "share D", h, items[:0], targets)
    refused(ValueError, "4 rows of h but 3 targets", h, items, targets[:3])
    refused(ValueError, "one device", h, items.to("meta"), targets)
    for bad in (-1, -100, 6, 2**40):
        refused(ValueError, r"targets\[2\] is", h, items, torch.tensor([0, 1, bad, 5]))
    with pytest.raises(Exception, match="backend"):
        item_cross_entropy(h, items, targets, backend="numpy")
