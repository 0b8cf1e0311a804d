"""Products of bf16 factors on emulated tensor cores: close, really rounded, never in a ranking.

This is emulation on a CPU, not a GPU. Two things are shown of the kernels with such a product: of
factors that bf16 holds exactly it is the product, of others it is as far away as bf16 is coarse:
more than TF32, which is an eighth of that, and not much more.
"""

import pytest
import torch

from mclrec_fast.ops import contrast, info_nce, item_cross_entropy

from ..conformance.accuracy import largest
from ..conformance.contrasts import CONTRAST, Shape
from ..conformance.encoder import ENCODE
from ..conformance.op_case import run
from . import test_item_cross_entropy
from .ops import emulated
from .test_encode import distances

CASES = ["short", "short, three layers", "short, one layer", "width 10, odd inner", "width 65"]


@pytest.mark.parametrize("name", [*CASES, "width 144", "more tokens than a row tile"])
def test_encode(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every depth up to a multiple of 8 and beyond one tile, whole and in halves of an mma.

    These cases are 1.0e-2 to 2.5e-2 away; with TF32 in bf16's place 1.1e-3 to 5.4e-3.
    """
    call = ENCODE.call(name, "half")
    truth = run(ENCODE, call, "torch", torch.float64)
    with emulated(monkeypatch, "random", bf16=True):
        found = run(ENCODE, call, "native", torch.float32)
    away = distances(found, truth)
    assert 8e-3 < max(away) < 4e-2, away


@pytest.mark.parametrize("shape", test_item_cross_entropy.SHAPES.values())
def test_catalogue(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]) -> None:
    op, call = test_item_cross_entropy.OP, test_item_cross_entropy.call_of(shape)
    with emulated(monkeypatch, "random", bf16=True):
        native = run(op, call, "native", torch.float32)
    away = test_item_cross_entropy.distances(native, run(op, call, "torch", torch.float64))
    assert 3e-3 < max(away) < 3e-2, away


@pytest.mark.parametrize("setting", ["dot", "cos"])
def test_contrast(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Of views that bf16 holds, what is rounded are the weights in the gradient's product.

    Others could change which negative is a row's largest, and with it where R's gradient goes.
    """
    call = CONTRAST.make(Shape(70, 24, 2.0), CONTRAST.settings[setting], 0)
    for name, x in call.tensors.items():
        call.tensors[name] = x.bfloat16().to(x.dtype)
    truth = run(CONTRAST, call, "torch", torch.float64)
    with emulated(monkeypatch, "random", bf16=True):
        native = run(CONTRAST, call, "native", torch.float32)
    away = [largest(native[name].double() - x) / largest(x) for name, x in truth.items()]
    assert 1e-3 < max(away) < 1e-2, away


@pytest.mark.parametrize("depth", [8, 24, 40, 64, 72])
def test_exact_factors_give_exact_products(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    """Small whole numbers: losses to the bit, so no factor was lost, doubled or misplaced."""
    generator = torch.Generator().manual_seed(depth)
    a, b = (torch.randint(-3, 4, (130, depth), generator=generator).float() for _ in range(2))
    targets = torch.arange(130)

    def losses() -> list[torch.Tensor]:
        return [
            item_cross_entropy(a, b, targets, backend="native"),
            info_nce(a, b, backend="native"),
            *contrast(a, b, b.flip(0), a.flip(0), cl1=True, backend="native"),
        ]

    with emulated(monkeypatch):
        plain = losses()
    with emulated(monkeypatch, bf16=True):
        rounded = losses()
        rounding_would_show = item_cross_entropy(a + 2.0**-9, b, targets, backend="native")
    assert all(x.equal(y) for x, y in zip(rounded, plain, strict=True))
    assert not rounding_would_show.equal(item_cross_entropy(a + 2.0**-9, b, targets))
