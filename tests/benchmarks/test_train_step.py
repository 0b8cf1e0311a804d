"""The train-step benchmark at tiny size: it runs, and its figures have the promised names."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import shapes, train_step
from mclrec_fast.data import split
from tests.small_runs import write_log

FIELDS = {
    "batch", "schedule", "backend", "threads", "median_ms", "p10_ms", "sequences_per_s",
    "fma_peak_gflops", "load_average", "isa", "percent_of_peak",
}  # fmt: skip


@pytest.mark.parametrize("schedule", ["paper", "official", "joint"])
def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str], schedule: str) -> None:
    log = write_log(tmp_path / "small.txt")
    argv = ["--batches", "2", "--warm-up", "1", "--batch", "16", "--threads", "1", "--json"]
    argv += ["--backend", "torch", "--schedule", schedule, "--data", str(log)]
    assert train_step.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() >= FIELDS
    assert (found["batch"], found["schedule"], found["backend"]) == (16, schedule, "torch")
    assert found["precision"] == "float32"
    assert found["p10_ms"] <= found["median_ms"]
    assert found["sequences_per_s"] == pytest.approx(16_000 / found["median_ms"])


def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train_step.main(["--schedule", "papr"])
    assert end.value.code == 2
    assert "did you mean 'paper'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        train_step.main(["--precision", "tf32"])
    assert end.value.code == 2
    assert "precision='tf32' needs a GPU" in capsys.readouterr().err


def test_the_generated_log_has_the_shape_of_beauty() -> None:
    log = shapes.beauty_log()
    samples = split(log).train
    assert (log.n_users, log.n_classes) == (22_363, 12_102)
    assert len(samples.users) == pytest.approx(131_413, rel=0.01)
    assert np.minimum(samples.ends, 50).mean() == pytest.approx(8.37, rel=0.01)
