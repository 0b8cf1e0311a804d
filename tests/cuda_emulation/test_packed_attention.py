"""Emulated CUDA `packed_attention`, values and gradients, against the reference.

This is emulation on a CPU, not a GPU. Cases and accuracy are those of the CPU kernel (tests/ops);
float64 also shows dropout to be equal to the bit.
"""

import pytest
import torch

from mclrec_fast.ops import packed_attention

from ..ops import test_packed_attention as attention
from ..ops.accuracy import assert_close64
from .ops import SCHEDULES, emulated

SHORTER = [3, 1, 5, 2, 32, 33, 40, 1]  # emulated threads are slow
CASES = {
    **{
        name: case._replace(lengths=SHORTER) if case.lengths is attention.MIXED else case
        for name, case in attention.CASES.items()
    },
    "lengths all equal": attention.Case([7] * 9),
    "only single tokens": attention.Case([1] * 20),
    "one long row": attention.Case([97]),
    "a very long row": attention.Case([200], 1, 8),
    "heads of 33": attention.Case([3, 40, 1], 2, 33),
    "the widest heads": attention.Case([3, 5], 1, 256),
}


@pytest.mark.parametrize("dropout", attention.DROPOUTS)
@pytest.mark.parametrize("name", CASES)
def test_float64(monkeypatch: pytest.MonkeyPatch, name: str, dropout: float) -> None:
    with emulated(monkeypatch):
        attention.compare64(CASES[name], dropout)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    "name", ["mixed", "hidden keys", "only single tokens", "a very long row", "the widest heads"]
)
def test_float32(monkeypatch: pytest.MonkeyPatch, name: str, dropout: float) -> None:
    with emulated(monkeypatch):
        attention.compare32(CASES[name], dropout)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["hidden keys", "empty sequences", "spare capacity"])
def test_every_schedule(monkeypatch: pytest.MonkeyPatch, name: str, schedule: str) -> None:
    with emulated(monkeypatch, schedule):
        attention.compare64(CASES[name], 0.5)
        attention.compare64(CASES[name], 0.2)


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize(("update", "layer"), [(0, 0), (2**32 - 1, 255)])
def test_every_seed_update_and_layer(
    monkeypatch: pytest.MonkeyPatch, seed: int, update: int, layer: int
) -> None:
    with emulated(monkeypatch):
        for dropout in (0.5, 0.3):
            attention.compare64(
                attention.Case([3, 40, 5], 2, 8), dropout, seed=seed, update=update, layer=layer
            )


def test_strided_and_unaligned_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view may begin anywhere; wide loads may not."""
    (q, k, v, _), offsets, visible = attention.inputs(CASES["hidden keys"])
    assert visible is not None
    expected = packed_attention(q, k, v, offsets, visible=visible, backend="torch")
    strange = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k)]
    shifted = torch.cat((v.new_zeros(1), v.flatten()))[1:].view_as(v)
    strided, seen = (torch.stack((x, x), -1)[:, 0] for x in (offsets, visible))
    with emulated(monkeypatch):
        found = packed_attention(*strange, shifted, strided, visible=seen, backend="native")
    assert_close64((found,), (expected,), 1e-13)


def test_the_same_bits_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    once = []
    for schedule in SCHEDULES:
        with emulated(monkeypatch, schedule):
            once.append(attention.run(CASES["mixed"], 0.5, "native", torch.float32))
    assert all(all(map(torch.equal, once[0], other)) for other in once[1:])


def test_nan_reaches_those_who_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (q, k, v, _), offsets, _ = attention.inputs(attention.Case([4, 12]))
    k[6, 0, 3] = torch.nan  # the third token of the second sequence
    with emulated(monkeypatch):
        context = packed_attention(q, k, v, offsets, backend="native")
    assert context[:6].isfinite().all()
    assert context[6:, 0].isnan().all()
    assert context[6:, 1].isfinite().all()


def test_wrong_offsets_stay_inside_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie on the device, where the host does not look at them."""
    (q, k, v, _), _, _ = attention.inputs(attention.Case([9], 2, 8))
    with emulated(monkeypatch):
        for wrong in ([-5, 3, 90], [4, 2, 2**31 - 1], [0, -(2**31), 9]):
            offsets = torch.tensor(wrong, dtype=torch.int32)
            context = packed_attention(q, k, v, offsets, backend="native")
            assert context.isfinite().all()


def test_heads_that_are_too_wide_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (q, k, v, _), offsets, _ = attention.inputs(attention.Case([2], 1, 257))
    with emulated(monkeypatch), pytest.raises(ValueError, match="at most 256"):
        packed_attention(q, k, v, offsets, backend="native")
