"""Packed batches cut into rows and narrowed: on the host's way and on the device's."""

import pytest
import torch

from mclrec_fast.ops import PackedSequences, packed

OFFSETS = [0, 3, 4, 9, 11, 12]


def batch(spare: int) -> PackedSequences:
    tokens = torch.arange(OFFSETS[-1] + spare, dtype=torch.int32)
    return PackedSequences(100 + tokens, 200 + tokens, torch.tensor(OFFSETS, dtype=torch.int32))


@pytest.mark.parametrize("on_device", (False, True))
@pytest.mark.parametrize("spare", (0, 1, 7))
@pytest.mark.parametrize(("start", "stop"), [(0, 5), (0, 2), (2, 5), (1, 4), (4, 5), (3, 3)])
def test_rows(
    monkeypatch: pytest.MonkeyPatch, start: int, stop: int, spare: int, on_device: bool
) -> None:
    whole = batch(spare)
    monkeypatch.setattr(packed, "free_to_read", lambda _: not on_device)
    rows = whole.rows(start, stop)
    first, tokens = OFFSETS[start], OFFSETS[stop] - OFFSETS[start]
    assert rows.offsets.tolist() == [offset - first for offset in OFFSETS[start : stop + 1]]
    assert len(rows.items) == len(rows.positions) == (len(whole.items) if on_device else tokens)
    for name in ("items", "positions"):
        moved, kept = getattr(rows, name), getattr(whole, name)
        assert moved.dtype == torch.int32
        assert moved[:tokens].equal(kept[first : first + tokens])
        assert set(moved.tolist()) <= set(kept.tolist())  # capacity holds ids of the table


@pytest.mark.parametrize("on_device", (False, True))
def test_narrow(monkeypatch: pytest.MonkeyPatch, on_device: bool) -> None:
    monkeypatch.setattr(packed, "free_to_read", lambda _: not on_device)
    narrow = batch(5).narrow()
    assert len(narrow.items) == len(narrow.positions) == OFFSETS[-1] + 5 * on_device
    assert narrow.offsets.tolist() == OFFSETS
