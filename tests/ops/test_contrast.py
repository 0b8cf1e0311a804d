"""contrast: the kernel against the reference, values and gradients, on every ISA."""

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import contrast

from .accuracy import assert_accurate, assert_close64, largest

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("contrast"), reason=f"no kernel: {_native.why_not()}"
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
    "a vector of rows and one": (17, 16),
    "one tile exactly": (128, 32),
    "one row over a tile": (129, 32),
    "two groups": (256, 64),
    "uneven groups": (300, 24),
    "recomputed, not stored": (1030, 16),
}
# Around the vectors and register tiles of every instruction set.
SHAPES |= {f"rows and width {d}": (d, d) for d in (15, 16, 17, 31, 32, 33)}
SETTINGS = {
    "dot": {},
    "without cl1": {"cl1": False},
    "dot, cold": {"temperature": 0.3},
    "cos": {"temperature": 0.2, "similarity": "cos"},
}
WEIGHTS = (0.3, 0.7, 1.1)  # of cl1, cl2 and the regulariser


def inputs(b: int, d: int, size: float = 1.0, seed: int = 0) -> list[Tensor]:
    """h1, h2, z1, z2 [B, D] in float64 with dot products of about `size`; float32 holds them."""
    generator = torch.Generator().manual_seed(seed)
    scale = (size / d**0.5) ** 0.5
    return [(torch.randn(b, d, generator=generator) * scale).double() for _ in range(4)]


def run(
    views: list[Tensor],
    settings: dict[str, object],
    backend: str,
    dtype: torch.dtype,
    weights: tuple[float, ...] = WEIGHTS,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """The three losses and the gradients of their weighted sum, computed on a device."""
    views = [x.detach().to(device, dtype).requires_grad_() for x in views]
    losses = contrast(*views, backend=backend, **settings)
    total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    results = (*(loss.detach() for loss in losses), *torch.autograd.grad(total, views))
    return tuple(x.cpu() for x in results)


def compare(
    views: list[Tensor],
    settings: dict[str, object],
    weights: tuple[float, ...] = WEIGHTS,
    device: str = "cpu",
) -> None:
    truth = run(views, settings, "torch", torch.float64, weights)
    torch32 = run(views, settings, "torch", torch.float32, weights, device)
    rows = torch.cat(views)
    logit = largest(rows @ rows.T) / min(float(settings.get("temperature", 1.0)), 1.0)
    native = run(views, settings, "native", torch.float32, weights, device)
    assert_accurate(native, torch32, truth, logit)
    native = run(views, settings, "native", torch.float64, weights, device)
    assert_close64(native, truth, 1e-14 * (10 + logit))


@needs_kernel
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_reference(shape: str, settings: str, isa: str) -> None:
    compare(inputs(*SHAPES[shape]), SETTINGS[settings])


@needs_kernel
@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("shape", ["three rows", "uneven groups"])
def test_each_loss_alone(shape: str, weights: tuple[float, ...], isa: str) -> None:
    compare(inputs(*SHAPES[shape]), {}, weights)
    compare(inputs(*SHAPES[shape]), SETTINGS["cos"], weights)


@needs_kernel
@pytest.mark.parametrize("size", [64.0, 1e4])
@pytest.mark.parametrize("shape", ["two rows", "three rows", "uneven groups"])
def test_large_logits(shape: str, size: float, isa: str) -> None:
    compare(inputs(*SHAPES[shape], size=size), {})


@needs_kernel
def test_encodings_large_and_augmented_views_of_unit_length(isa: str) -> None:
    """As in training: |h| about 8, |z| = 1, first and second views of a sample alike."""
    h1, h2, z1, z2 = inputs(256, 64, size=8.0)
    h2 = (h1 + 0.5 * h2).float().double()
    z1, z2 = ((x / x.norm(dim=1, keepdim=True)).float().double() for x in (z1, z1 + z2))
    compare([h1, h2, z1, z2], {})


@needs_kernel
@pytest.mark.parametrize("rows", [9, 300, 1030])
def test_rows_of_very_different_size(rows: int, isa: str) -> None:
    """Maxima of one tile hundreds of powers of two apart: no exponential may serve two rows."""
    size = torch.logspace(-3, 1.5, rows, dtype=torch.float32).double()[:, None]
    size = size[torch.randperm(rows, generator=torch.Generator().manual_seed(1))]
    compare([(x * size).float().double() for x in inputs(rows, 8, size=4.0)], {})


@needs_kernel
@pytest.mark.parametrize("rows", [2, 5, 130, 300])
def test_ties_of_maxima(rows: int, isa: str) -> None:
    """Small integers: exact products, many equal maxima; each gradient goes where torch puts it."""
    generator = torch.Generator().manual_seed(rows)
    views = [torch.randint(-1, 2, (rows, 3), generator=generator).double() for _ in range(4)]
    for weights in ((0.0, 0.0, 1.0), WEIGHTS):
        truth = run(views, {}, "torch", torch.float64, weights)
        assert_close64(run(views, {}, "native", torch.float64, weights), truth, 1e-13)
        # The products are exact in float32 too, so its maxima tie in the same places; one gradient
        # in the wrong place would be off by a large part of the whole.
        native = run(views, {}, "native", torch.float32, weights)
        for result, expected in zip(native, truth, strict=True):
            assert largest(result.double() - expected) <= 1e-5 * largest(expected)


@needs_kernel
@pytest.mark.parametrize("rows", [2, 3, 130])
def test_equal_rows(rows: int, isa: str) -> None:
    """Positives, negatives, self and cross maxima all equal."""
    compare([torch.ones(rows, 4, dtype=torch.float64)] * 4, {})


@needs_kernel
@pytest.mark.parametrize("wanted", [(0,), (3,), (0, 1), (2, 3), (1, 2)])
@pytest.mark.parametrize("settings", ["dot", "cos"])
@pytest.mark.parametrize("rows", [40, 300])
def test_some_gradients_only(rows: int, settings: str, wanted: tuple[int, ...]) -> None:
    views = [x.float() for x in inputs(rows, 12)]
    full = run(views, SETTINGS[settings], "native", torch.float32)
    views = [x.clone().requires_grad_(index in wanted) for index, x in enumerate(views)]
    losses = contrast(*views, backend="native", **SETTINGS[settings])
    total = sum(weight * loss for weight, loss in zip(WEIGHTS, losses, strict=True))
    grads = torch.autograd.grad(total, [views[index] for index in wanted])
    for index, loss in enumerate(losses):
        assert torch.equal(loss.detach(), full[index])
    for index, grad in zip(wanted, grads, strict=True):
        assert torch.equal(grad, full[3 + index])
    with torch.no_grad():
        losses = contrast(*views, backend="native", **SETTINGS[settings])
    for index, loss in enumerate(losses):
        assert torch.equal(loss, full[index])


@needs_kernel
def test_gradient_twice_and_of_one_loss() -> None:
    views = [x.requires_grad_() for x in inputs(140, 12)]
    losses = contrast(*views, backend="native")
    first = torch.autograd.grad(losses[1], views, retain_graph=True)
    second = torch.autograd.grad(losses[1] + 0.0 * losses[2], views)
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


@needs_kernel
def test_not_contiguous(isa: str) -> None:
    h1, h2, z1, z2 = (x.float() for x in inputs(18, 24))
    plain = run([h1, h2, z1, z2], {}, "native", torch.float32)
    strange = [h1.T.contiguous().T, h2.repeat(1, 2)[:, :24], z1.repeat_interleave(2, 0)[::2], z2]
    assert not any(x.is_contiguous() for x in strange[:3])
    for x, y in zip(run(strange, {}, "native", torch.float32), plain, strict=True):
        assert torch.equal(x, y)


@needs_kernel
@pytest.mark.parametrize("settings", ["dot", "cos"])
@pytest.mark.parametrize("shape", [(9, 5), (300, 24), (1030, 16)])
def test_same_bits_for_any_thread_count(shape: tuple[int, int], settings: str, isa: str) -> None:
    views = inputs(*shape, size=8.0)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(run(views, SETTINGS[settings], "native", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert torch.equal(x, y)


@needs_kernel
@pytest.mark.parametrize("settings", SETTINGS)
def test_gradcheck(settings: str) -> None:
    views = [x.requires_grad_() for x in inputs(4, 3)]
    torch.autograd.gradcheck(lambda *x: contrast(*x, backend="native", **SETTINGS[settings]), views)


@needs_kernel
@pytest.mark.parametrize("wanted", [(True,) * 4, (False, False, True, True), (False,) * 4])
def test_opcheck(wanted: tuple[bool, ...]) -> None:
    views = [x.requires_grad_(want) for x, want in zip(inputs(5, 3), wanted, strict=True)]
    torch.library.opcheck(
        torch.ops.mclrec_fast.contrast.default, (*views, 0.5, True, True, any(wanted))
    )


@needs_kernel
def test_second_derivative_is_refused() -> None:
    views = [x.requires_grad_() for x in inputs(5, 3)]
    _, loss, _ = contrast(*views, backend="native")
    (grad,) = torch.autograd.grad(loss, views[0], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated"):
        (loss + grad.square().sum()).backward()


@needs_kernel
@pytest.mark.parametrize("rows", [40, 1030])
def test_nan_propagates(rows: int, isa: str) -> None:
    views = inputs(rows, 16)
    views[3][33, 5] = torch.nan
    cl1, cl2, regulariser, *grads = run(views, {}, "native", torch.float32)
    assert cl1.isfinite()
    assert cl2.isnan()
    assert regulariser.isnan()
    assert grads[2].isnan().any()
    assert grads[3].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_one_row_has_no_contrast(settings: str, backend: str) -> None:
    for result in run(inputs(1, 5), SETTINGS[settings], backend, torch.float32):
        assert torch.equal(result, torch.zeros_like(result))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input(backend: str) -> None:
    x = torch.randn(4, 3)

    def refused(error: type[Exception], match: str, *views: Tensor, **settings: object) -> None:
        with pytest.raises(error, match=match):
            contrast(*views, backend=backend, **settings)

    refused(TypeError, "h1 must be", *[x.half()] * 4)
    refused(TypeError, "z2 must be", x, x, x, x.double())
    refused(ValueError, "dimension", x[0], x, x, x)
    refused(ValueError, "h2 must have the shape of h1", x, x[:3], x, x)
    refused(ValueError, "z1 must have the shape of h1", x, x, x[:, :2], x)
    refused(ValueError, "empty", *[x[:0]] * 4)
    refused(ValueError, "one device", x, x, x, x.to("meta"))
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        refused(ValueError, "temperature", x, x, x, x, temperature=temperature)
    refused(ValueError, "similarity", x, x, x, x, similarity="euclid")
    with pytest.raises(Exception, match="backend"):
        contrast(x, x, x, x, backend="numpy")
