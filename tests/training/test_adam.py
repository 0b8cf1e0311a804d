"""Adam against torch's own, to the bit."""

import pytest
import torch

from mclrec_fast.training.adam import Adam


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
