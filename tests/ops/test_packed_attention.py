"""packed_attention: addresses of the dropout, NaN. The rest is in tests/conformance."""

import pytest
import torch

from mclrec_fast.ops import packed_attention

from ..conformance.attention import PACKED_ATTENTION as OP
from ..conformance.attention import SHORT, Shape
from ..conformance.checks import assert_close64
from ..conformance.op_case import run


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize(("update", "layer"), [(0, 0), (2**32 - 1, 255)])
def test_every_seed_update_and_layer(seed: int, update: int, layer: int) -> None:
    for dropout in (0.5, 0.3):
        options = {"seed": seed, "update": update, "layer": layer, "dropout": dropout}
        call = OP.make(Shape(SHORT, 2, 8), options, 0)
        truth = run(OP, call, "torch", torch.float64)
        assert_close64(run(OP, call, "native", torch.float64), truth, 1e-13)


def test_nan_reaches_those_who_see_it(backend: str) -> None:
    tensors = OP.make(Shape([4, 12]), {}, 0).tensors
    tensors["key"][6, 0, 3] = torch.nan  # the third token of the second sequence
    context = packed_attention(**tensors, backend=backend)
    assert context[:6].isfinite().all()
    assert context[6:, 0].isnan().all()
    assert context[6:, 1].isfinite().all()


def test_scores_that_are_all_minus_infinity(backend: str) -> None:
    """No number is made of them; a query without a visible key has 0 all the same."""
    tensors = OP.make(Shape([3, 20]), {}, 0).tensors
    tensors["key"].fill_(1.0)
    tensors["query"][5] = -torch.inf
    visible = torch.ones(23, dtype=torch.bool)
    visible[0] = False
    context = packed_attention(**tensors, visible=visible, backend=backend)
    assert context[5].isnan().all()
    assert not context[0].any()
    assert context[[*range(1, 5), *range(6, 23)]].isfinite().all()
