"""What the conformance suite (`pytest tests/conformance -m gpu`) does not ask of the CUDA kernels.

Tensor cores that round, dropout masks, and large rankings on the GPU.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native, _precision
from mclrec_fast.ops.philox import dropout_mask, shuffle_order

from ..conformance.accuracy import assert_same_bits, largest
from ..conformance.op_case import run
from ..conformance.op_cases import OPS
from ..conformance.ranking import Shape
from .devices import on_both

ROUNDED = {
    "encode": ("mixed", "half"),
    "contrast": ("one row over a tile", "dot"),
    "item_cross_entropy": ("two chunks of rows", "logits of 1"),
}
LARGE = Shape(300, 5000, 64, "rounded")


@on_both
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_dropout_masks_are_equal_to_the_bit(device: str, p: float) -> None:
    def mask(where: str) -> Tensor:
        row = torch.arange(50, device=where)
        return dropout_mask(
            p, row * 30, 30, row, alignment=30, seed=2**64 - 3, stream=5, update=2**32 - 1
        ).cpu()  # fmt: skip

    assert mask(device).equal(mask("cpu"))
    assert shuffle_order(1000, seed=3, epoch=4).unique().numel() == 1000


@pytest.fixture(params=["tf32", "bf16"])
def rounding(request: pytest.FixtureRequest) -> Iterator[float]:
    """Products rounded, by torch and by the kernels; how large a factor's error may be."""
    with _precision.rounding(request.param, "cuda", "native"):
        yield {"tf32": 2.0**-11, "bf16": 2.0**-8}[request.param]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ROUNDED)
def test_tensor_cores_round_and_stay_close(rounding: float, name: str) -> None:
    """The same function, and visibly rounded."""
    op, call = OPS[name], OPS[name].call(*ROUNDED[name])
    truth = run(op, call, "torch", torch.float64)
    found = run(op, call, "native", torch.float32, "cuda")
    # A gradient that is 0 in theory is measured by a tenth of the largest.
    floor = 0.1 * max(largest(x) for part, x in truth.items() if part.startswith("d "))
    away = max(
        largest(found[part].double() - x) / max(largest(x), floor) for part, x in truth.items()
    )
    assert 0.02 * rounding < away < 40 * rounding


def compare_rankings(device: str) -> None:
    """Both backends on a device against plain torch on the CPU."""
    for name, settings in (("target_rank", {}), ("top_k", {"k": 20})):
        op, call = OPS[name], OPS[name].make(LARGE, settings, 0)
        expected = run(op, call, "torch", torch.float32)
        for backend in ("native", "torch"):
            assert_same_bits(run(op, call, backend, torch.float32, device), expected)


@on_both
def test_large_rankings(device: str) -> None:
    if device == "cpu" and _native.isa() == "portable":
        pytest.skip("compares bits that only a fused multiply-add has")
    compare_rankings(device)


@pytest.mark.gpu
@pytest.mark.usefixtures("rounding")
def test_rounding_touches_no_ranking() -> None:
    compare_rankings("cuda")
