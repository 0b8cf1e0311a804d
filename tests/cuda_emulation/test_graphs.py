"""Training steps replayed as a graph on the emulated kernels: the bits of training without one.

The graph is tests/fake_graph.py and the kernels are emulated: nothing here ran on a GPU. What is
shown is that nothing a replay needs is left in Python or in the arguments of a launch.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mclrec_fast.errors import RunError
from mclrec_fast.ops import packed
from mclrec_fast.training import graphs
from mclrec_fast.training.step import TrainingStep

from .. import fake_graph
from ..no_waiting import no_waiting
from ..training.trajectory import Run, make_run, next_batch, sample
from .ops import emulated


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Emulated kernels, unread offsets (so that every batch has one capacity) and the graph.

    Counts what a GPU would see: warm-up batches, captures and replays.
    """
    calls: Counter[str] = Counter()

    def capture(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        replay, result = fake_graph.capture(function)
        calls["captures"] += 1
        return lambda: (calls.update(["replays"]), replay())[1], result

    def aside(function: Callable[[], Any]) -> Any:
        calls["warm-up"] += 1
        return function()

    with emulated(monkeypatch):
        monkeypatch.setattr(packed, "free_to_read", lambda _: False)
        monkeypatch.setattr(graphs, "capture", capture)
        monkeypatch.setattr(graphs, "on_a_side_stream", aside)
        yield calls


def losses_of(run: Run, count: int, small_batch: int | None = None) -> list[dict[str, Tensor]]:
    """Trains on `count` batches, the one of that number being half as large; their losses."""
    found = []
    for number in range(count):
        batch, update = next_batch(run)
        if number == small_batch:
            batch = sample(run, torch.arange(len(batch.targets) // 2), number)
        found.append(run.step(batch, update=update))
    return found


def assert_same_bits(
    found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], runs: tuple[Run, Run]
) -> None:
    """Losses, weights and optimizers."""
    for ours, theirs in zip(found, expected, strict=True):
        assert list(ours) == list(theirs)
        assert all(ours[name].equal(theirs[name]) for name in theirs)
    ours, theirs = (dict(run.step.model.state_dict()) for run in runs)
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    for name, state in runs[1].step.state_dict().items():
        assert runs[0].step.state_dict()[name]["steps"].equal(state["steps"])


@pytest.mark.parametrize(
    ("schedule", "model"),
    [("official", "mclrec"), ("paper", "mclrec"), ("joint", "mclrec"), ("joint", "cl4srec"),
     ("joint", "sasrec")],
)  # fmt: skip
def test_replays_have_the_bits_of_eager_updates(
    calls: Counter[str], schedule: str, model: str
) -> None:
    """Three batches of warm-up, the captured one and four replays; a small one between them."""
    graphed = make_run("native", schedule=schedule, model=model, graphed=True)
    eager = make_run("native", schedule=schedule, model=model)
    with no_waiting():
        found = losses_of(graphed, 8, small_batch=5)
    assert_same_bits(found, losses_of(eager, 8, small_batch=5), (graphed, eager))
    assert len({float(losses["rec"]) for losses in found}) == 8
    assert calls == {"warm-up": graphs.WARM_UP, "captures": 1, "replays": 4}


@pytest.mark.usefixtures("calls")
def test_capturing_computes_nothing() -> None:
    run = make_run("native", graphed=True)
    assert isinstance(run.step, graphs.GraphedStep)
    losses_of(run, graphs.WARM_UP)
    before = {name: weight.clone() for name, weight in run.step.model.state_dict().items()}
    run.step._capture(next_batch(run)[0])
    assert all(w.equal(before[name]) for name, w in run.step.model.state_dict().items())


@pytest.mark.usefixtures("calls")
def test_a_capture_that_fails_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    run = make_run("native", graphed=True)
    losses_of(run, graphs.WARM_UP)
    monkeypatch.setattr(graphs, "capture", refuse)
    with pytest.raises(RunError, match=r"not permitted when .*: --no-cuda-graphs"):
        losses_of(run, 1)


@pytest.mark.usefixtures("calls")
def test_a_number_among_the_arguments_would_be_noticed() -> None:
    """The graph of a step that was told its update as a plain number repeats its dropout."""
    run, eager = make_run("native"), make_run("native")
    batch, update = next_batch(run)
    replay, losses = fake_graph.capture(lambda: run.step(batch, update=update))
    replay()
    assert losses["rec"].equal(eager.step(batch, update=update)["rec"])
    replay()
    right = eager.step(batch, update=update + run.step.updates_per_batch)["rec"]
    assert not losses["rec"].equal(right)


@pytest.mark.usefixtures("calls")
def test_the_step_that_training_takes() -> None:
    """A graph on CUDA with its kernels and unless it is switched off; else launch by launch."""
    run = make_run("native")

    def kind(**changes: Any) -> type[TrainingStep]:
        return type(graphs.training_step(run.step.model, replace(run.settings, **changes)))

    assert kind(device="cuda") is graphs.GraphedStep
    assert kind(device="cuda", cuda_graphs=False) is TrainingStep
    assert kind(device="cuda", backend="torch") is TrainingStep
    assert kind(device="cpu") is TrainingStep
    assert kind(device="cuda", ema_decay=0.9) is TrainingStep
    assert kind(device="cuda", warmup_steps=3) is TrainingStep
