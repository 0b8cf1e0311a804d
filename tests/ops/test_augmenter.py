"""augmenter: the kernel against the reference, values and gradients, on every ISA."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import augmenter

from .accuracy import assert_accurate, assert_close64

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("augmenter"), reason=f"no kernel: {_native.why_not()}"
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]

# B and the four sizes
SHAPES = {
    "one row": (1, 5, 2, 1, 5),
    "all sizes 1": (3, 1, 1, 1, 1),
    "vector width": (7, 8, 8, 8, 8),
    "vector width and one": (6, 9, 9, 9, 9),
    "vector width less one": (13, 7, 7, 7, 7),
    "tile width and one": (20, 17, 17, 17, 17),
    "the paper's": (256, 64, 32, 16, 64),
    "one block exactly": (128, 24, 12, 6, 24),
    "one row over a block": (129, 24, 12, 6, 24),
    "wide": (40, 130, 65, 33, 130),
}
# Around the vectors and register tiles of every instruction set.
SHAPES |= {f"width {d}": (d, d, d, d, d) for d in (15, 16, 31, 32, 33)}


def inputs(rows: int, *sizes: int, seed: int = 0) -> list[Tensor]:
    """H [B, D] and the six weights, float64 that float32 holds; values before GELU of about 1."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(rows, sizes[0], generator=generator)]
    for into, out in pairwise(sizes):
        tensors.append(torch.randn(out, into, generator=generator) / into**0.5)
        tensors.append(torch.randn(out, generator=generator) * 0.3)
    return [tensor.double() for tensor in tensors]


def run(tensors: list[Tensor], backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """z, and the gradients of a weighted sum of it."""
    h, *weights = (tensor.detach().to(dtype).requires_grad_() for tensor in tensors)
    z = augmenter(h, weights, backend=backend)
    grad = torch.randn(z.shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    return (z.detach(), *torch.autograd.grad(z, [h, *weights], grad))


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES)
def test_against_reference(shape: str, isa: str) -> None:
    tensors = inputs(*SHAPES[shape])
    truth = run(tensors, "torch", torch.float64)
    torch32 = run(tensors, "torch", torch.float32)
    assert_accurate(run(tensors, "native", torch.float32), torch32, truth, logit=4.0)
    assert_close64(run(tensors, "native", torch.float64), truth, 1e-13)


@needs_kernel
def test_saturated(isa: str) -> None:
    """GELU far from 0 on both sides."""
    h, *weights = inputs(50, 16, 8, 4, 16)
    tensors = [h * 30, *weights]
    truth = run(tensors, "torch", torch.float64)
    torch32 = run(tensors, "torch", torch.float32)
    assert_accurate(run(tensors, "native", torch.float32), torch32, truth, logit=30.0)


@needs_kernel
@pytest.mark.parametrize("wanted", [(0,), (1, 2, 3, 4, 5, 6), (0, 3), (6,)])
def test_some_gradients_only(wanted: tuple[int, ...], isa: str) -> None:
    tensors = inputs(140, 12, 6, 3, 12)
    full = run(tensors, "native", torch.float32)
    h, *weights = (t.float().requires_grad_(i in wanted) for i, t in enumerate(tensors))
    z = augmenter(h, weights, backend="native")
    grad = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    grads = torch.autograd.grad(z, [[h, *weights][i] for i in wanted], grad)
    for i, result in zip(wanted, grads, strict=True):
        assert torch.equal(result, full[1 + i])
    with torch.no_grad():
        assert torch.equal(augmenter(h, weights, backend="native"), full[0])


@needs_kernel
def test_not_contiguous(isa: str) -> None:
    tensors = [t.float() for t in inputs(18, 24, 12, 6, 24)]
    plain = run(tensors, "native", torch.float32)
    strange = [t.T.contiguous().T if t.dim() == 2 else t.repeat_interleave(2)[::2] for t in tensors]
    assert not any(t.is_contiguous() for t in strange)
    for x, y in zip(run(strange, "native", torch.float32), plain, strict=True):
        assert torch.equal(x, y)


@needs_kernel
def test_same_bits_for_any_thread_count(isa: str) -> None:
    tensors = inputs(1000, 64, 32, 16, 64)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(run(tensors, "native", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert torch.equal(x, y)


@needs_kernel
def test_gradcheck() -> None:
    h, *weights = (tensor.requires_grad_() for tensor in inputs(3, 4, 3, 2, 4))
    torch.autograd.gradcheck(lambda h, *w: augmenter(h, w, backend="native"), (h, *weights))


@needs_kernel
@pytest.mark.parametrize("wanted", [range(7), [0], range(1, 7), []])
def test_opcheck(wanted: list[int]) -> None:
    tensors = [t.requires_grad_(i in wanted) for i, t in enumerate(inputs(3, 5, 3, 2, 5))]
    arguments = (*tensors, len(wanted) > 0)
    torch.library.opcheck(torch.ops.mclrec_fast.augmenter.default, arguments)


@needs_kernel
def test_second_derivative_is_refused() -> None:
    h, *weights = (tensor.requires_grad_() for tensor in inputs(3, 4, 3, 2, 4))
    z = augmenter(h, weights, backend="native")
    (grad,) = torch.autograd.grad(z[0, 0], h, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        (z.sum() + grad.square().sum()).backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_unit_length_and_nan(backend: str) -> None:
    tensors = inputs(9, 8, 4, 2, 8)
    tensors[0][4, 3] = torch.nan
    z, grad_h, *grads = run(tensors, backend, torch.float32)
    lengths = z.norm(dim=1)
    assert lengths[4].isnan()
    torch.testing.assert_close(lengths[[0, 1, 2, 3, 5, 6, 7, 8]], torch.ones(8))
    assert grad_h[4].isnan().all()
    assert not grad_h[:4].isnan().any()
    assert all(grad.isnan().any() for grad in grads)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(backend: str) -> None:
    h, *weights = (tensor.float() for tensor in inputs(4, 6, 3, 2, 6))

    def refused(error: type[Exception], match: str, h: Tensor, weights: list[Tensor]) -> None:
        with pytest.raises(error, match=match):
            augmenter(h, weights, backend=backend)

    refused(TypeError, "h must be", h.half(), weights)
    refused(TypeError, "bias_2 must be", h, [*weights[:3], weights[3].double(), *weights[4:]])
    refused(ValueError, "h must not be empty", h[:0], weights)
    refused(ValueError, "weights must be 6, got 5", h, weights[:5])
    refused(ValueError, "weight_1 must have shape", h[:, :5], weights)
    refused(ValueError, "bias_1 must have shape", h, [weights[0], weights[1][:2], *weights[2:]])
    refused(ValueError, "one device", h, [weights[0].to("meta"), *weights[1:]])
    with pytest.raises(Exception, match="backend"):
        augmenter(h, weights, backend="numpy")
