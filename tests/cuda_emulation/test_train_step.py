"""Whole training batches on the emulated CUDA kernels: the losses of the CPU's, and no waiting.

This is emulation on a CPU, not a GPU: what is shown is that the sources of `_C_cuda` under the
training step compute the same trajectory, with token counts that only the device knows.
"""

import pytest
import torch

from mclrec_fast.ops import packed

from ..no_waiting import Waiting, no_waiting
from ..training.trajectory import assert_same_trajectory, make_run, run_batches
from .ops import emulated


@pytest.mark.parametrize(
    ("schedule", "model"),
    [("official", "mclrec"), ("paper", "mclrec"), ("joint", "mclrec"), ("joint", "cl4srec"),
     ("joint", "sasrec")],
)  # fmt: skip
def test_trajectory_without_waiting(
    monkeypatch: pytest.MonkeyPatch, schedule: str, model: str
) -> None:
    expected = run_batches(make_run("torch", schedule=schedule, model=model), 3)
    with emulated(monkeypatch):
        run = make_run("native", schedule=schedule, model=model)
        monkeypatch.setattr(packed, "free_to_read", lambda _: False)
        with no_waiting():
            losses = run_batches(run, 3)
    assert_same_trajectory(losses, expected)


def test_a_read_offset_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with emulated(monkeypatch):
        run = make_run("native")
        monkeypatch.setattr(packed, "free_to_read", lambda _: True)
        with no_waiting(), pytest.raises(Waiting, match="_local_scalar_dense"):
            run_batches(run, 1)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x[0]),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.equal(x),
        lambda x: x.to("meta"),
        lambda x: torch.repeat_interleave(torch.arange(3), torch.arange(3)),
    ],
)  # fmt: skip
def test_no_waiting_finds(wait) -> None:  # type: ignore[no-untyped-def]
    with no_waiting(), pytest.raises(Waiting):
        wait(torch.ones(3))
