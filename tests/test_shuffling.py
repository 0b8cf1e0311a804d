"""The order of an epoch in windows is the order in one piece."""

import pytest
import torch

from mclrec_fast import shuffling
from mclrec_fast.ops.philox import shuffle_order
from mclrec_fast.shuffling import Shuffled


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of some hundred samples."""
    monkeypatch.setattr(shuffling, "WINDOW", 300)
    monkeypatch.setattr(shuffling, "_CHUNK", 128)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("samples", [1, 300, 301, 2000])
@pytest.mark.parametrize("batch", [7, 256, 1000])
def test_parts_are_those_of_the_whole(samples: int, batch: int) -> None:
    """In order from the beginning, as an epoch asks for them."""
    order = Shuffled(samples, seed=3, epoch=2)
    parts = [order.part(at, min(at + batch, samples)) for at in range(0, samples, batch)]
    assert torch.equal(torch.cat(parts), shuffle_order(samples, seed=3, epoch=2))


@pytest.mark.usefixtures("small_windows")
def test_any_part_can_be_asked_for() -> None:
    """A run that goes on begins in the middle; looking back works, too."""
    whole = shuffle_order(2000, seed=5, epoch=1)
    order = Shuffled(2000, seed=5, epoch=1)
    for first, end in ((1500, 1800), (1999, 2000), (0, 3), (200, 1900)):
        assert torch.equal(order.part(first, end), whole[first:end])


@pytest.mark.usefixtures("small_windows")
def test_a_window_is_all_that_is_held() -> None:
    """What is kept of 5 000 samples is a window of some 300."""
    order = Shuffled(5000, seed=1, epoch=0)
    for at in range(0, 5000, 100):
        order.part(at, at + 100)
        assert len(order._window) <= 400
