"""Training on the GPU: trajectories, no waiting for it inside an update, updates as CUDA graphs."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mclrec_fast.commands import evaluate, train
from mclrec_fast.training import graphs
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
    sample,
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
    """Torch finds every wait for the GPU that goes through it; there is none in csrc/ops."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("graphed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("schedule", "model"), MODELS)
def test_nothing_waits_inside_a_batch(
    schedule: str, model: str, dtype: torch.dtype, graphed: bool
) -> None:
    run = make_run("native", "cuda", schedule=schedule, model=model, dtype=dtype, graphed=graphed)
    # Libraries and caches are set up in the first batches, and the graph is captured.
    run_batches(run, graphs.WARM_UP + 1)
    torch.cuda.synchronize()
    book = LossBook({})
    with waiting_is_an_error():
        for _ in range(3):
            batch, update = next_batch(run)
            book.add(run.step(batch, update=update), len(batch.targets), run.batches)
    assert book.read() is None


@pytest.mark.gpu
def test_a_wait_is_noticed() -> None:
    offsets = torch.ones(3, device="cuda")
    with waiting_is_an_error(), pytest.raises(RuntimeError, match="synchroniz"):
        float(offsets[0])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("schedule", "model"), MODELS)
def test_updates_as_a_cuda_graph(schedule: str, model: str, dtype: torch.dtype) -> None:
    """Captured after the warm-up and replayed for nine batches, each with its own dropout.

    Losses, weights and the optimizers' means are those of updates launched one by one, to the bit.
    """
    graphed, eager = (
        make_run("native", "cuda", schedule=schedule, model=model, dtype=dtype, graphed=graphed)
        for graphed in (True, False)
    )
    count = graphs.WARM_UP + 9
    losses = run_batches(graphed, count)
    for name, expected in run_batches(eager, count).items():
        assert losses[name].equal(expected), name
    assert losses["rec"].unique().numel() == count
    for a, b in zip(graphed.step.model.parameters(), eager.step.model.parameters(), strict=True):
        assert a.equal(b)
    ours, theirs = (run.step.state_dict() for run in (graphed, eager))
    for name, state in theirs.items():
        assert all(a.equal(b) for a, b in zip(ours[name]["first"], state["first"], strict=True))


@pytest.mark.gpu
def test_a_batch_of_another_size_between_replays() -> None:
    """The last batch of an epoch is launched one by one; the graph goes on from its weights."""
    graphed, eager = (make_run("native", "cuda", graphed=graphed) for graphed in (True, False))
    run_batches(graphed, graphs.WARM_UP + 1)
    run_batches(eager, graphs.WARM_UP + 1)
    for run in (graphed, eager):
        run.batches += 1
        index = torch.arange(5, device="cuda")
        run.step(sample(run, index, run.batches), update=3 * run.batches)
    found, expected = run_batches(graphed, 2), run_batches(eager, 2)
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.gpu
@pytest.mark.parametrize("update", [0, 2**32 - 1])
def test_an_update_read_on_the_device_draws_the_same_bits(update: int) -> None:
    run = make_run("native", "cuda", dtype=torch.float32)
    views = next_batch(run)[0].sequences
    number = torch.tensor(update, device="cuda")
    given, counted = (
        run.step.model.encoder(views, seed=2**64 - 5, update=u, backend="native")
        for u in (update, number)
    )
    assert given.equal(counted)
