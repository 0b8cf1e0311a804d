"""Emulated CUDA kernels whose inputs hold indices: wrong ones, order, ties, what is not finite.

Indices lie on the device, where the host does not look at them: a wrong one may not lead out of the
tensors. This is emulation on a CPU, not a GPU. The rest is in test_conformance.py.
"""

import pytest
import torch

from mclrec_fast.ops import augment_views, packed_attention, target_rank, top_k

from ..conformance import attention
from ..conformance.accuracy import assert_close64
from ..conformance.op_case import run
from ..conformance.ranking import TARGET_RANK, TOP_K, Shape, inputs, lists_per_row
from ..conformance.views import RATIOS, slices
from .ops import SCHEDULES, emulated


def test_wrong_slices_stay_inside_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    items, starts, lengths = slices([4] * 6).values()
    starts[0], starts[1], lengths[2], lengths[3] = -7, 10**12, -3, 10**6
    with emulated(monkeypatch):
        packed = augment_views(
            items, starts, lengths, max_length=50, seed=1, batch=1, **RATIOS, backend="native"
        )
    assert int(packed.offsets[-1]) <= 18 * 50
    assert set(packed.items.unique().tolist()) <= {0, *items.tolist()}


def test_wrong_offsets_stay_inside_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = attention.make(attention.Shape([9], 2, 8), {}, 0).tensors
    with emulated(monkeypatch):
        for wrong in ([-5, 3, 90], [4, 2, 2**31 - 1], [0, -(2**31), 9]):
            tensors["offsets"] = torch.tensor(wrong, dtype=torch.int32)
            assert packed_attention(**tensors, backend="native").isfinite().all()


def test_heads_that_are_too_wide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = attention.make(attention.Shape([2], 1, 257), {}, 0).tensors
    with emulated(monkeypatch), pytest.raises(ValueError, match="at most 256"):
        packed_attention(**tensors, backend="native")


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize(("update", "layer"), [(0, 0), (2**32 - 1, 255)])
def test_every_seed_update_and_layer(
    monkeypatch: pytest.MonkeyPatch, seed: int, update: int, layer: int
) -> None:
    op, shape = attention.PACKED_ATTENTION, attention.Shape([3, 40, 5], 2, 8)
    for dropout in (0.5, 0.3):
        options = {"seed": seed, "update": update, "layer": layer, "dropout": dropout}
        call = op.make(shape, options, 0)
        with emulated(monkeypatch):
            found = run(op, call, "native", torch.float64)
        assert_close64(found, run(op, call, "torch", torch.float64), 1e-13)


def test_nan_reaches_those_who_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = attention.make(attention.Shape([4, 12]), {}, 0).tensors
    tensors["key"][6, 0, 3] = torch.nan  # the third token of the second sequence
    with emulated(monkeypatch):
        context = packed_attention(**tensors, backend="native")
    assert context[:6].isfinite().all()
    assert context[6:, 0].isnan().all()
    assert context[6:, 1].isfinite().all()


@pytest.mark.parametrize("width", [1, 7, 64, 65])
def test_tensor_cores_touch_no_ranking(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Every item has a twin far away in the table; a score is the same chain of FMAs everywhere."""
    for op, settings in ((TARGET_RANK, {}), (TOP_K, {"k": 11})):
        call = op.make(Shape(40, 101, width, "rounded"), settings, 0)
        expected = run(op, call, "torch", torch.float32)
        for rounding in ({"tf32": True}, {"bf16": True}):
            with emulated(monkeypatch, "random", **rounding):
                found = run(op, call, "native", torch.float32)
            assert all(x.equal(expected[name]) for name, x in found.items())


@pytest.mark.parametrize("descending", [False, True])
def test_scores_that_come_sorted(monkeypatch: pytest.MonkeyPatch, descending: bool) -> None:
    """The lists take in nothing after their first items, or every item of the catalogue."""
    values = torch.arange(200.0).flip(0) if descending else torch.arange(200.0)
    lists = lists_per_row([[], [199, 1], [7] * 9])
    arguments = (torch.ones(3, 1), values[:, None], 6, *lists)
    with emulated(monkeypatch, "random"):
        found = top_k(*arguments, backend="native")
    assert all(map(torch.equal, found, top_k(*arguments, backend="torch")))


def test_more_than_half_of_the_table_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = inputs(Shape(5, 150, 4))
    lists = lists_per_row([list(range(149 - 30 * row)) * 2 for row in range(5)])
    arguments = (tensors["h"], tensors["item_embedding"], 9, *lists)
    with emulated(monkeypatch, "random"):
        found = top_k(*arguments, backend="native")
    assert all(map(torch.equal, found, top_k(*arguments, backend="torch")))


def test_wrong_exclusions_stay_inside_their_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = inputs(Shape(3, 40, 4))
    exclude = torch.tensor([-9, 10**9, 5], dtype=torch.int32)
    offsets = torch.tensor([-4, 10**12, 2, 3])
    with emulated(monkeypatch):
        _, items = top_k(
            tensors["h"], tensors["item_embedding"], 40, exclude, offsets, backend="native"
        )
    assert [5 in row for row in items.tolist()] == [False, True, False]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_score_that_is_not_finite_is_an_error(
    monkeypatch: pytest.MonkeyPatch, bad: float, schedule: str
) -> None:
    for place, index, row in (("h", (3, 2), 3), ("item_embedding", (179, 0), 0)):
        tensors = inputs(Shape(5, 180, 8))
        tensors["h"][tensors["h"] == 0] = 1.0
        tensors[place][index] = bad
        with emulated(monkeypatch, schedule):
            with pytest.raises(ValueError, match=f"row {row}"):
                target_rank(**tensors, backend="native")
            _, lists = tensors.pop("targets"), lists_per_row([[]] * 5)
            with pytest.raises(ValueError, match=f"row {row}"):
                top_k(tensors["h"], tensors["item_embedding"], 4, *lists, backend="native")
