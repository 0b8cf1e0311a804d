"""Twenty updates in float32, dropout active: the kernels' losses err no more than plain torch's.

The tolerance is that of a single op (tests/conformance/accuracy.py), for the whole training: what a
kernel errs in one update moves the weights that all later losses are computed from.
"""

import functools
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from ..conformance.accuracy import assert_accurate
from ..conformance.targets import CPU, Target
from .trajectory import Sizes, make_run, run_batches

MIDDLE = Sizes(classes=2000, users=400, batch=100, longest=20, hidden=32, inner=48)
# Schedule, model, batches: the 21 updates of seven official batches, 20 of a model that has one.
TRAININGS = [("official", "mclrec", 7), ("joint", "cl4srec", 20), ("joint", "sasrec", 20)]
LOSSES = {
    "mclrec": {"rec", "cl1", "cl2", "reg", "encoder", "augmenter", "encoder_again"},
    "cl4srec": {"rec", "cl1", "encoder"},
    "sasrec": {"rec", "encoder"},
}


@functools.cache
def of_torch(schedule: str, model: str, batches: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The losses of plain torch by name, [batches]; the same for every instruction set."""
    return run_batches(make_run("torch", schedule=schedule, model=model, dtype=dtype), batches)


@pytest.mark.parametrize("target", CPU)
@pytest.mark.parametrize(("schedule", "model", "batches"), TRAININGS)
def test_losses_err_no_more_than_those_of_torch(
    schedule: str, model: str, batches: int, target: Target
) -> None:
    with target.selected():
        run = make_run("native", schedule=schedule, model=model, dtype=torch.float32)
        native = run_batches(run, batches)
    torch32 = of_torch(schedule, model, batches, torch.float32)
    truth = of_torch(schedule, model, batches, torch.float64)
    assert native.keys() == torch32.keys() == truth.keys()
    # Every term of the model takes part, and no two batches have the same value of it.
    moving = {name for name, losses in truth.items() if len(losses.unique()) == batches}
    assert moving == LOSSES[model]
    assert all(losses.shape == (batches,) for losses in native.values())
    assert_accurate([native], [torch32], [truth])


@pytest.mark.parametrize("target", CPU)
@pytest.mark.parametrize("model", ["mclrec", "cl4srec", "sasrec"])
def test_bits_do_not_depend_on_threads(model: str, target: Target) -> None:
    """Nor on whose they are: torch's, or those that a training takes."""
    before = torch.get_num_threads()
    try:
        with target.selected():
            one, *others = [
                trained(model, threads, own) for threads in (1, 2, 3, 8) for own in (False, True)
            ]
    finally:
        torch.set_num_threads(before)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def trained(model: str, threads: int, own: bool) -> list[Tensor]:
    """The weights after four batches of sizes that give every kernel several tasks."""
    torch.set_num_threads(threads)
    run = make_run("native", model=model, dtype=torch.float32, sizes=MIDDLE)
    with run.step.threads() if own else nullcontext():
        run_batches(run, 4)
    return [weight.detach() for weight in run.step.model.parameters()]
