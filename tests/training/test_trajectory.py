"""Twenty updates in float32, dropout active: the kernels' losses err no more than plain torch's.

The tolerance is that of a single op (tests/ops/accuracy.py), for the whole training: what a kernel
errs in one update moves the weights that all later losses are computed from.
"""

import functools

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native

from ..ops.accuracy import assert_accurate
from .trajectory import make_run, run_batches

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


@pytest.mark.parametrize("isa", _native.compiled_isa() or ["no kernels"])
@pytest.mark.parametrize(("schedule", "model", "batches"), TRAININGS)
def test_losses_err_no_more_than_those_of_torch(
    schedule: str, model: str, batches: int, isa: str
) -> None:
    if isa not in _native.usable_isa():
        pytest.skip(f"{isa} cannot run here: {_native.why_not() or 'not on this CPU'}")
    with _native.use_isa(isa):
        run = make_run("native", schedule=schedule, model=model, dtype=torch.float32)
        native = run_batches(run, batches)
    torch32 = of_torch(schedule, model, batches, torch.float32)
    truth = of_torch(schedule, model, batches, torch.float64)
    assert native.keys() == torch32.keys() == truth.keys()
    # Every term of the model takes part, and no two batches have the same value of it.
    moving = {name for name, losses in truth.items() if len(losses.unique()) == batches}
    assert moving == LOSSES[model]
    for name, losses in native.items():
        assert losses.shape == (batches,)
        assert_accurate((losses,), (torch32[name],), (truth[name],))
