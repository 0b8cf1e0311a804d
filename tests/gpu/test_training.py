"""Training on the GPU: trajectories, no waiting for it inside an update, updates as CUDA graphs."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mclrec_fast import evaluate, train
from mclrec_fast.ops import PackedSequences
from mclrec_fast.training.losses import LossBook

from .. import small_runs
from ..training.trajectory import (
    OFFICIAL,
    SMALL,
    assert_same_trajectory,
    distances,
    make_run,
    next_batch,
    run_batches,
)
from .devices import on_both

MODELS = [
    ("official", "mclrec"), ("paper", "mclrec"), ("joint", "mclrec"), ("joint", "cl4srec"),
    ("joint", "sasrec"),
]  # fmt: skip
BATCHES = {"official": 7, "paper": 10, "joint": 20}  # 20 updates or one more


@on_both
@pytest.mark.parametrize(("schedule", "model"), MODELS)
def test_trajectory_float64(device: str, schedule: str, model: str) -> None:
    run = make_run("native", device, schedule=schedule, model=model)
    expected = make_run("torch", schedule=schedule, model=model)
    count = BATCHES[schedule]
    assert_same_trajectory(run_batches(run, count), run_batches(expected, count))


@pytest.mark.gpu
@pytest.mark.parametrize(("schedule", "model"), MODELS)
def test_trajectory_of_plain_torch(schedule: str, model: str) -> None:
    """Without any kernel of this package; on the CPU it is what the others are compared with."""
    run = make_run("torch", "cuda", schedule=schedule, model=model)
    expected = make_run("torch", schedule=schedule, model=model)
    assert_same_trajectory(run_batches(run, 3), run_batches(expected, 3))


@on_both
def test_trajectory_float32(device: str) -> None:
    """At the official size on a GPU.

    Of every loss, the distance to float64 is at most four times that of plain torch in float32: the
    largest of a few chance errors, which Adam magnifies.
    """
    sizes, count = (SMALL, 7) if device == "cpu" else (OFFICIAL, 3)

    def losses(backend: str, where: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        return run_batches(make_run(backend, where, dtype=dtype, sizes=sizes), count)

    truth = losses("torch", "cpu", torch.float64)
    ours = distances(losses("native", device, torch.float32), truth)
    torch32 = distances(losses("torch", "cpu", torch.float32), truth)
    for name, distance in ours.items():
        assert distance <= 4 * torch32[name] + 1e-6, (name, distance, torch32[name])


@on_both
def test_a_state_moves_between_devices(device: str) -> None:
    """Weights and optimizers of a run elsewhere go on here as if they had always been here."""
    straight, here = make_run("native"), make_run("native", device)
    run_batches(straight, 2)
    here.step.model.load_state_dict(straight.step.model.state_dict())
    here.step.load_state_dict(copy.deepcopy(straight.step.state_dict()))
    here.batches = straight.batches
    assert_same_trajectory(run_batches(here, 2), run_batches(straight, 2))
    assert {state["steps"].device.type for state in here.step.state_dict().values()} == {device}


@on_both
def test_a_run_from_the_command_line(device: str, tmp_path: Path) -> None:
    log = small_runs.write_log(tmp_path / "log.txt")
    out, more = tmp_path / "run", ("--device", device, "--backend", "native")
    assert small_runs.run(log, out, *more, "--max-steps", "3") == 0
    assert train.main(["--resume", str(out), "--max-steps", "5"]) == 0
    assert small_runs.result(out)["backend"] == "native"
    assert evaluate.main([str(out), "--device", "cpu"]) == 0


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Torch finds every wait for the GPU that goes through it; there is none in csrc/ops_cuda."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("schedule", "model"), MODELS)
def test_nothing_waits_inside_a_batch(schedule: str, model: str, dtype: torch.dtype) -> None:
    run = make_run("native", "cuda", schedule=schedule, model=model, dtype=dtype)
    run_batches(run, 1)  # libraries and caches are set up in the first batch
    torch.cuda.synchronize()
    book = LossBook({})
    with waiting_is_an_error():
        for _ in range(3):
            views, targets, update = next_batch(run)
            book.add(run.step(views, targets, update=update), len(targets), run.batches)
    assert book.read() is None


@pytest.mark.gpu
def test_a_wait_is_noticed() -> None:
    offsets = torch.ones(3, device="cuda")
    with waiting_is_an_error(), pytest.raises(RuntimeError, match="synchroniz"):
        float(offsets[0])


@pytest.mark.gpu
@pytest.mark.parametrize(("schedule", "model"), MODELS)
def test_the_updates_of_a_batch_as_one_cuda_graph(schedule: str, model: str) -> None:
    """Captured once and replayed on two other batches: the eager losses and weights.

    The capture holds the numbers of its updates, and so their dropout draws: the eager run is given
    the same ones. Every batch has one capacity, so that its tokens can be copied into place.
    """
    graphed, eager = (make_run("native", "cuda", schedule=schedule, model=model) for _ in range(2))
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run_batches(graphed, 3)
    torch.cuda.current_stream().wait_stream(aside)
    run_batches(eager, 3)

    views, targets, update = next_batch(graphed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = graphed.step(views, targets, update=update)
    for _ in range(2):
        new_views, new_targets, _ = next_batch(eager)
        copy_batch((views, targets), (new_views, new_targets))
        graph.replay()
        expected = eager.step(new_views, new_targets, update=update)
        assert_same_trajectory(losses, expected)
    for a, b in zip(graphed.step.model.parameters(), eager.step.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def copy_batch(
    to: tuple[PackedSequences, torch.Tensor], source: tuple[PackedSequences, torch.Tensor]
) -> None:
    """Puts another batch of the same capacity where a captured graph reads."""
    for a, b in zip((*to[0], to[1]), (*source[0], source[1]), strict=True):
        a.copy_(b)
