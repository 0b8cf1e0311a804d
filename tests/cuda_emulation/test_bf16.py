"""Products of bf16 factors on emulated tensor cores: close, really rounded, never in a ranking.

This is emulation on a CPU, not a GPU. Two things are shown of the kernels with such a product: of
factors that bf16 holds exactly it is the product, of others it is as far away as bf16 is coarse:
more than TF32, which is an eighth of that, and not much more.
"""

import pytest
import torch

from mclrec_fast.ops import contrast, info_nce, item_cross_entropy

from ..ops import test_contrast as four
from ..ops.accuracy import largest
from ..ops.ranking_inputs import random_case
from .ops import emulated
from .test_encode import CASES, by_kernels, by_reference
from .test_encode import distances as encode_distances
from .test_item_cross_entropy import SHAPES, distances, run
from .test_target_rank import ranks


@pytest.mark.parametrize("name", CASES)
def test_encode(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every depth up to a multiple of 8 and beyond one tile, whole and in halves of an mma."""
    case = CASES[name]
    truth = by_reference(case, torch.float64)
    found = by_kernels(case, torch.float32, monkeypatch, "random", False, bf16=True)
    away = encode_distances(found, truth)
    assert 1.5e-2 < max(away) < 8e-2, away


@pytest.mark.parametrize("name", ["usual", "width not a multiple of 4", "three pieces wide"])
def test_item_cross_entropy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with emulated(monkeypatch, "random", bf16=True):
        native = run(SHAPES[name], torch.float32, "native")
    away = distances(native, run(SHAPES[name], torch.float64, "torch"))
    assert 3e-3 < max(away) < 3e-2, away


@pytest.mark.parametrize("settings", ["dot", "cos"])
def test_contrast(monkeypatch: pytest.MonkeyPatch, settings: str) -> None:
    """Of views that bf16 holds, what is rounded are the weights in the gradient's product.

    Others could change which negative is a row's largest, and with it where R's gradient goes.
    """
    views = [x.bfloat16().to(x.dtype) for x in four.inputs(70, 24, size=2.0)]
    truth = four.run(views, four.SETTINGS[settings], "torch", torch.float64)
    with emulated(monkeypatch, "random", bf16=True):
        native = four.run(views, four.SETTINGS[settings], "native", torch.float32)
    away = [largest(n.double() - x) / largest(x) for n, x in zip(native, truth, strict=True)]
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


def test_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(40, 301, 64)
    with emulated(monkeypatch, "random", bf16=True):
        assert ranks(case, "native") == ranks(case, "torch")
