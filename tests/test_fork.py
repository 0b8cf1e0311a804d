"""A child that is forked off after the kernels have run computes on, and does not hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends import BACKENDS
from tests.small_runs import write_log

CODE = """
import os, sys, warnings
import torch
from mclrec_fast import Dataset, SASRec
torch.set_num_threads(2)
data = Dataset.from_file(sys.argv[1])
settings = dict(epochs=1, batch_size=64, verbose=False, backend=sys.argv[2], threads=2)
make = lambda: SASRec(hidden_size=8, inner_size=16, max_length=10)
model = make().fit(data, **settings)
answers = model.recommend(data, k=3).items
child = os.fork()
if child == 0:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        same = model.recommend(data, k=3).items == answers
        again = make().fit(data, **settings)
    same = same and again.recommend(data, k=3).items == answers
    warned = any("'spawn'" in str(w.message) for w in said)
    os._exit(0 if same and warned and torch.get_num_threads() == 1 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert torch.get_num_threads() == 2 and model.recommend(data, k=3).items == answers
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_recommends_and_trains(tmp_path: Path, backend: str) -> None:
    log = write_log(tmp_path / "log.txt")
    command = [sys.executable, "-c", CODE, str(log), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
