"""Every op with a CUDA kernel on the GPU: values and gradients against the reference on the CPU.

Tolerances are those of tests/ops, from the reference's own float32 error on the same device; what
is made of integers or of draws is equal to the bit.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import (
    PackedSequences,
    augment_views,
    contrast,
    encode,
    gather_sequences,
    info_nce,
    item_cross_entropy,
    packed_attention,
)
from mclrec_fast.ops.philox import dropout_mask, shuffle_order
from mclrec_fast.ops.target_rank import target_rank
from mclrec_fast.ops.top_k import top_k

from ..ops import test_augment_views as augmented
from ..ops import test_contrast as four
from ..ops import test_encode as encoder
from ..ops import test_info_nce as two
from ..ops import test_item_cross_entropy as items
from ..ops import test_packed_attention as attention
from ..ops.accuracy import assert_close64, largest
from ..ops.encoder_inputs import CASES, encoder_weights, packed_batch
from ..ops.ranking_inputs import RankingCase, dyadic_case, random_case
from .devices import on_both, on_devices

KERNELS = (
    "augment_views", "gather_sequences", "encode", "encode_backward", "contrast",
    "contrast_backward", "info_nce", "info_nce_backward", "item_cross_entropy", "target_rank",
    "packed_attention", "packed_attention_backward", "top_k",
)  # fmt: skip
DTYPES = [torch.float32, torch.float64]


@on_both
@pytest.mark.parametrize("op", KERNELS)
def test_there_is_a_kernel(device: str, op: str) -> None:
    assert _native.has_kernel(op, device)
    assert _native.backend("auto", device, op) == "native"


@on_devices(augmented.SHAPES, cpu=["mixed", "no rows"])
def test_views_are_equal_to_the_bit(device: str, name: str) -> None:
    lengths = augmented.SHAPES[name]
    log = augmented.slices(lengths)
    there = [x.to(device) for x in log]
    longest = max(lengths, default=1)
    for batch in (0, 3):
        options = {"max_length": longest, "seed": 2**63 + 11, "batch": batch, **augmented.RATIOS}
        expected = augment_views(*log, **options, backend="torch")
        for backend in ("native", "torch"):
            assert_same(augment_views(*there, **options, backend=backend), expected, device)
    expected = gather_sequences(*log, max_length=longest, backend="torch")
    for backend in ("native", "torch"):
        found = gather_sequences(*there, max_length=longest, backend=backend)
        assert_same(found, expected, device)


def assert_same(found: PackedSequences, expected: PackedSequences, device: str) -> None:
    """Equal but for the capacity; rows of it are equal too."""
    assert found.items.device.type == device
    rows = len(expected.offsets) - 1
    for a, b in ((found, expected), (found.rows(rows // 3, rows), expected.rows(rows // 3, rows))):
        tokens = int(b.offsets[-1])
        assert a.offsets.cpu().equal(b.offsets)
        assert a.items[:tokens].cpu().equal(b.items[:tokens])
        assert a.positions[:tokens].cpu().equal(b.positions[:tokens])


@on_devices(CASES, cpu=["mixed", "spare capacity"])
@pytest.mark.parametrize("dropout", ["no dropout", "half", "other"])
def test_encode_float64(device: str, name: str, dropout: str) -> None:
    """With dropout: one different bit of any mask would show."""
    case = CASES[name]
    found = encoder.run(case, dropout, "native", torch.float64, device=device)
    assert_close64(found, encoder.run(case, dropout, "torch", torch.float64), 1e-11)


@on_devices([n for n, c in CASES.items() if min(c.hidden, c.inner) > 1], cpu=["one layer"])
@pytest.mark.parametrize("dropout", ["no dropout", "half"])
def test_encode_float32(device: str, name: str, dropout: str) -> None:
    encoder.compare32(CASES[name], dropout, device, zeros_cancel=device == "cuda")


@on_devices(attention.CASES, cpu=["spare capacity"])
@pytest.mark.parametrize("dropout", attention.DROPOUTS)
def test_packed_attention_float64(device: str, name: str, dropout: float) -> None:
    attention.compare64(attention.CASES[name], dropout, device)


@on_devices([n for n, c in attention.CASES.items() if sum(c.lengths) > 1], cpu=["hidden keys"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_packed_attention_float32(device: str, name: str, dropout: float) -> None:
    attention.compare32(attention.CASES[name], dropout, device)


@on_devices(four.SHAPES, cpu=["one row over a tile"])
@pytest.mark.parametrize("settings", four.SETTINGS)
def test_contrast(device: str, name: str, settings: str) -> None:
    four.compare(four.inputs(*four.SHAPES[name]), four.SETTINGS[settings], device=device)


@on_devices(two.SHAPES, cpu=["one row over a tile"])
@pytest.mark.parametrize("settings", two.SETTINGS)
def test_info_nce(device: str, name: str, settings: str) -> None:
    two.compare(*two.inputs(*two.SHAPES[name]), two.SETTINGS[settings], device)


@on_devices(items.SHAPES, cpu=["one item over a tile"])
@pytest.mark.parametrize("size", [1.0, 64.0])
def test_item_cross_entropy(device: str, name: str, size: float) -> None:
    items.compare(items.inputs(*items.SHAPES[name], size=size), device)


@on_both
@pytest.mark.parametrize("shape", [(1, 2, 1), (66, 129, 64), (99, 9, 3), (300, 5000, 64)])
def test_target_rank(device: str, shape: tuple[int, int, int]) -> None:
    for case in (dyadic_case(*shape), random_case(*shape)):
        expected = target_rank(*case, backend="torch")
        for backend in ("native", "torch"):
            found = target_rank(*on(case, device), backend=backend)
            for a, b in zip(found, expected, strict=True):
                assert a.cpu().equal(b)


def on(case: RankingCase, device: str) -> RankingCase:
    """The case's tensors on a device."""
    return RankingCase(*(x.to(device) for x in case))


@on_both
@pytest.mark.parametrize("shape", [(1, 2, 1), (66, 129, 64), (99, 9, 3), (300, 5000, 64)])
@pytest.mark.parametrize("k", [1, 20, 200])
def test_top_k(device: str, shape: tuple[int, int, int], k: int) -> None:
    for case in (dyadic_case(*shape), random_case(*shape)):
        expected = top_k(*without_targets(case, k), backend="torch")
        for backend in ("native", "torch"):
            found = top_k(*without_targets(on(case, device), k), backend=backend)
            for a, b in zip(found, expected, strict=True):
                assert a.cpu().equal(b)


def without_targets(case: RankingCase, k: int) -> tuple[Tensor, Tensor, int, Tensor, Tensor]:
    """The case as `top_k` takes it."""
    return case.h, case.item_embedding, k, case.history, case.history_offsets


@on_both
def test_the_reference_itself(device: str) -> None:
    """The plain torch path on the device, which has no kernel of this package in it."""
    case = CASES["mixed"]
    found = encoder.run(case, "other", "torch", torch.float64, device=device)
    assert_close64(found, encoder.run(case, "other", "torch", torch.float64), 1e-11)
    for op, arguments, settings in (
        (four, (four.inputs(9, 8), four.SETTINGS["cos"]), ()),
        (two, (*two.inputs(9, 8), two.SETTINGS["cos"]), ()),
        (items, items.inputs(9, 60, 8), ()),
    ):
        found = op.run(*arguments, "torch", torch.float64, *settings, device=device)
        assert_close64(found, op.run(*arguments, "torch", torch.float64, *settings))


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


@on_both
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_twice(device: str, dtype: torch.dtype) -> None:
    """No sum depends on which block of threads came first."""
    once, again = (
        (
            *encoder.run(CASES["many chunks"], "half", "native", dtype, device=device),
            *four.run(four.inputs(300, 24), {}, "native", dtype, device=device),
            *two.run(*two.inputs(300, 24), ("cos", 0.2), "native", dtype, device),
            *items.run(*items.inputs(257, 120, 32), "native", dtype, device),
            *attention.run(attention.CASES["mixed"], 0.5, "native", dtype, device=device),
        )
        for _ in range(2)
    )
    assert all(a.equal(b) for a, b in zip(once, again, strict=True))


@pytest.fixture(params=["tf32", "bf16"])
def rounding(request: pytest.FixtureRequest) -> Iterator[float]:
    """Products rounded, by torch and by the kernels; how large a factor's error may be."""
    _native.set_precision(request.param)
    yield {"tf32": 2.0**-11, "bf16": 2.0**-8}[request.param]
    _native.set_precision("float32")


@pytest.mark.gpu
def test_tensor_cores_round_and_stay_close(rounding: float) -> None:
    """The same function, and visibly rounded."""
    batch = {
        "encode": (encoder, (CASES["mixed"], "half")),
        "contrast": (four, (four.inputs(129, 32), {})),
        "item_cross_entropy": (items, items.inputs(257, 120, 32)),
    }
    for name, (op, arguments) in batch.items():
        truth = op.run(*arguments, "torch", torch.float64)
        found = op.run(*arguments, "native", torch.float32, device="cuda")
        # A gradient that is 0 in theory is measured by a tenth of the largest.
        floor = 0.1 * max(largest(x) for x in truth[1:])
        pairs = zip(found, truth, strict=True)
        away = max(largest(a.double() - x) / max(largest(x), floor) for a, x in pairs)
        assert 0.02 * rounding < away < 40 * rounding, name


@pytest.mark.gpu
@pytest.mark.usefixtures("rounding")
def test_rounding_touches_no_ranking() -> None:
    case = random_case(300, 5000, 64)
    ranks = target_rank(*case, backend="torch")
    best = top_k(*without_targets(case, 20), backend="torch")
    for backend in ("native", "torch"):
        there = on(case, "cuda")
        found = target_rank(*there, backend=backend)
        assert all(a.cpu().equal(b) for a, b in zip(found, ranks, strict=True))
        found = top_k(*without_targets(there, 20), backend=backend)
        assert all(a.cpu().equal(b) for a, b in zip(found, best, strict=True))


def calls(device: str) -> dict[str, tuple[Any, list[Tensor], dict[str, Any]]]:
    """Of each op: a function of tensors, its tensors on a device, and its settings."""
    case = CASES["one row"]
    log = [x.to(device) for x in augmented.slices([3, 5])]
    views = {"max_length": 5, "seed": 1, "batch": 0, **augmented.RATIOS}
    tokens = [x.to(device) for x in packed_batch(case)]
    weights = [x.to(device) for x in encoder_weights(case)]
    rank = list(on(random_case(3, 9, 4), device))
    rows = [x.to(device) for x in four.inputs(3, 4)]
    heads = torch.randn(4, 2, 8, device=device)
    return {
        "augment_views": (augment_views, log, views),
        "gather_sequences": (gather_sequences, log, {"max_length": 5}),
        "encode": (
            lambda a, b, c, *w, **options: encode(PackedSequences(a, b, c), w, **options),
            [*tokens, *weights],
            encoder.options(case),
        ),
        "contrast": (contrast, rows, {}),
        "info_nce": (info_nce, rows[:2], {}),
        "item_cross_entropy": (
            item_cross_entropy,
            [rows[0], rows[1], torch.zeros(3, dtype=torch.int64, device=device)],
            {},
        ),
        "target_rank": (target_rank, rank, {}),
        "top_k": (
            lambda h, e, x, o, **options: top_k(h, e, 2, x, o, **options),
            [rank[0], rank[1], *rank[3:]],
            {},
        ),
        "packed_attention": (
            packed_attention,
            [heads, heads, heads, torch.tensor([0, 1, 4], dtype=torch.int32, device=device)],
            {},
        ),
    }


@on_devices(calls("cpu"), cpu=list(calls("cpu")))
@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_tensor_on_another_device_is_an_error(device: str, name: str, backend: str) -> None:
    """Each tensor of each op in turn; said before anything runs, in words."""
    function, tensors, settings = calls(device)[name]
    elsewhere = "cpu" if device == "cuda" else "meta"
    for index in range(len(tensors)):
        mixed = [x.to(elsewhere) if i == index else x for i, x in enumerate(tensors)]
        with pytest.raises(ValueError, match=rf"^{name}: .*on one device.*{elsewhere}"):
            function(*mixed, **settings, backend=backend)
