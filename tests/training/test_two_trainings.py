"""Two models trained at the same time, in two Python threads, do not disturb each other.

The kernels keep scratch memory and pools between calls; this is where sharing them would show.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from mclrec_fast import _native

from .trajectory import make_run, run_batches

BATCHES = 12
KINDS = [("official", "mclrec"), ("joint", "sasrec")]


def trained(schedule: str, model: str, start: Barrier | None) -> list[torch.Tensor]:
    """The weights behind some batches in float32."""
    if start is not None:
        start.wait()
    run = make_run("native", schedule=schedule, model=model, dtype=torch.float32)
    run_batches(run, BATCHES)
    return [weight.detach() for weight in run.step.model.parameters()]


@pytest.mark.skipif(not _native.available(), reason=f"no kernels: {_native.why_not()}")
@pytest.mark.parametrize("kinds", [KINDS, KINDS[:1] * 2], ids=["different", "alike"])
def test_weights_are_those_of_trainings_alone(kinds: list[tuple[str, str]]) -> None:
    alone = [trained(*kind, None) for kind in kinds]
    start = Barrier(len(kinds))
    with ThreadPoolExecutor(len(kinds)) as pool:
        together = list(pool.map(lambda kind: trained(*kind, start), kinds))
    for expected, found in zip(alone, together, strict=True):
        assert len(expected) == len(found) > 0
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a, b)
