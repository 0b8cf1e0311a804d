"""Adam against torch's own, to the bit."""

import pytest
import torch

from mclrec_fast import _native
from mclrec_fast.training.adam import Adam

from ..conformance.targets import CPU, Target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mine = [torch.randn(shape, dtype=dtype) for shape in [(37, 8), (8,), (1,)]]
    theirs = [weight.clone().requires_grad_() for weight in mine]
    adam = Adam(mine, 1e-2)
    reference = torch.optim.Adam(theirs, lr=1e-2, fused=True)
    for _ in range(12):
        gradients = [torch.randn_like(weight) for weight in mine]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        adam.step(gradients)
        reference.step()
        for a, b in zip(mine, theirs, strict=True):
            assert torch.equal(a, b.detach())


@pytest.mark.parametrize("target", CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_equals_torch(dtype: torch.dtype, target: Target) -> None:
    """Where both multiply and add with one rounding: in whole vectors of a CPU with AVX2."""
    torch.manual_seed(0)
    shapes = [(40_000, 2), (16,), (64, 64), (7,), (1,), (16, 16)]
    weights = [torch.randn(shape, dtype=dtype) for shape in shapes]
    theirs = Adam([weight.clone() for weight in weights], 1e-2)
    with target.selected():
        kernel = Adam(weights, 1e-2, native=True)
        for _ in range(12):
            gradients = [torch.randn_like(weight) for weight in weights]
            theirs.step(gradients)
            with _native.helpers(True):
                kernel.step(gradients)
        same = _native.isa() != "portable" and torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    assert kernel.steps == theirs.steps == 12
    for name in ("weights", "first", "second"):
        for mine, other in zip(getattr(kernel, name), getattr(theirs, name), strict=True):
            if same and mine.numel() % 16 == 0:
                assert torch.equal(mine, other)
            torch.testing.assert_close(mine, other, rtol=16 * torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.skipif(not _native.available(), reason=str(_native.why_not()))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradients": []}, "every weight must have a gradient and two means"),
        ({"gradients": [torch.zeros(3)]}, "gradient must have shape"),
        ({"first": [torch.zeros(4).double()]}, "first must be float32, got float64"),
        ({"second": [torch.zeros(8)[::2]]}, "weights and means must be contiguous"),
        ({"steps": torch.zeros(1)}, "steps must have shape"),
    ],
)
def test_bad_arguments_of_the_kernel(change: dict[str, object], message: str) -> None:
    names = ("weights", "gradients", "first", "second")
    arguments: dict[str, object] = {name: [torch.zeros(4)] for name in names}
    arguments |= {"steps": torch.zeros(())} | change
    with pytest.raises(ValueError, match=message):
        torch.ops.mclrec_fast.adam_step(*arguments.values(), 1e-3, 0.9, 0.999, 1e-8)


def test_goes_on_from_a_saved_state() -> None:
    torch.manual_seed(0)
    straight = torch.randn(5, 3)
    halves = straight.clone()
    gradients = [torch.randn(5, 3) for _ in range(6)]
    one = Adam([straight], 0.1)
    for gradient in gradients:
        one.step([gradient])
    first = Adam([halves], 0.1)
    for gradient in gradients[:3]:
        first.step([gradient])
    second = Adam([halves], 0.1)
    second.load_state_dict(first.state_dict())
    for gradient in gradients[3:]:
        second.step([gradient])
    assert torch.equal(straight, halves)
    assert second.steps == 6
