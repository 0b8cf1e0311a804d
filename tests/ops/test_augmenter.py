"""augmenter: unit length and NaN. The rest is in tests/conformance."""

import torch

from ..conformance.op_case import run
from ..conformance.perceptron import AUGMENTER, make


def test_unit_length_and_nan(backend: str) -> None:
    call = make((9, 8, 4, 2, 8), {"size": 1.0}, 0)
    call.tensors["h"][4, 3] = torch.nan
    z, grad_h, *grads = run(AUGMENTER, call, backend, torch.float32).values()
    lengths = z.norm(dim=1)
    assert lengths[4].isnan()
    torch.testing.assert_close(lengths[[0, 1, 2, 3, 5, 6, 7, 8]], torch.ones(8))
    assert grad_h[4].isnan().all()
    assert not grad_h[:4].isnan().any()
    assert all(grad.isnan().any() for grad in grads)
