"""item_cross_entropy: ties, chunks of rows, NaN. The rest is in tests/conformance."""

import pytest
import torch

from mclrec_fast.ops import item_cross_entropy

from ..conformance.accuracy import assert_accurate
from ..conformance.catalogue import ITEM_CROSS_ENTROPY as OP
from ..conformance.catalogue import Shape
from ..conformance.op_case import run


@pytest.mark.usefixtures("kernel")
def test_equal_rows_and_items() -> None:
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


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("shape", [(256, 70_000, 1), (17, 1_200_000, 1)])
def test_rows_in_smaller_chunks(shape: tuple[int, int, int]) -> None:
    """More than 64 MB of exponentials for one chunk of 256 rows: the chunk gets fewer rows."""
    assert shape[0] * shape[1] * 4 > 64 << 20
    call = OP.make(Shape(*shape), {"size": 1.0}, 0)
    truth, torch32 = (run(OP, call, "torch", dtype) for dtype in (torch.float64, torch.float32))
    assert_accurate([run(OP, call, "native", torch.float32)], [torch32], [truth])


@pytest.mark.parametrize("size", [1e9, 2e9, 1e19, 1e37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits(size: float, dtype: torch.dtype, backend: str) -> None:
    """Equal logits of any size: log V; others: the distance to the largest."""
    h = torch.ones(3, 1, dtype=dtype)
    items = torch.full((200, 1), size, dtype=dtype)
    loss = item_cross_entropy(h, items, torch.tensor([0, 7, 199]), backend=backend)
    assert float(loss) == pytest.approx(float(torch.tensor(200.0).log()), rel=1e-6)
    items[7], items[150] = -size, 2 * size
    loss = item_cross_entropy(h, items, torch.tensor([7, 7, 7]), backend=backend)
    assert float(loss) == pytest.approx(3 * size, rel=1e-6)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("place", ["h", "item_embedding"])
def test_nan_propagates(place: str) -> None:
    call = OP.make(Shape(40, 300, 16), {"size": 1.0}, 0)
    call.tensors[place][33, 5] = torch.nan
    loss, grad_h, grad_items = run(OP, call, "native", torch.float32).values()
    assert loss.isnan()
    assert grad_h[33].isnan().all()
    assert grad_items.isnan().any()
    if place == "h":
        assert grad_h[:33].isfinite().all()
