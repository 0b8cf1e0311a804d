"""A run that stopped, was killed or was interrupted goes on to the bits of one that never did."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mclrec_fast.commands import train
from mclrec_fast.runs import checkpoint
from mclrec_fast.training.step import TrainingStep
from tests.small_runs import arguments, assert_same_run, metrics, run, write_log

EPOCHS = ("--epochs", "3")

# Runs the command line of argv[2:] and dies by the signal argv[1] at a moment given by the
# environment: DIE_AT_STEP (when that many batches are done) or DIE_AT_WRITE (k-th replacement of a
# file, before it when k < 0, after it when k > 0).
DRIVER = """
import os, signal, sys
from mclrec_fast import _files
from mclrec_fast.commands import train
from mclrec_fast.training.step import TrainingStep

number = getattr(signal, sys.argv[1])
step = int(os.environ.get("DIE_AT_STEP", 0))
write = int(os.environ.get("DIE_AT_WRITE", 0))
counts = {"step": 0, "write": 0}
call, replace = TrainingStep.__call__, os.replace

def counted_call(self, *args, **kwargs):
    losses = call(self, *args, **kwargs)
    counts["step"] += 1
    if counts["step"] == step:
        os.kill(os.getpid(), number)
    return losses

def counted_replace(source, target):
    counts["write"] += 1
    if counts["write"] == -write:
        os.kill(os.getpid(), number)
    replace(source, target)
    if counts["write"] == write:
        os.kill(os.getpid(), number)

TrainingStep.__call__ = counted_call
_files.os.replace = counted_replace
sys.exit(train.main(sys.argv[2:]))
"""


def run_and_die(how: str, argv: list[str], **moment: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {name: str(value) for name, value in moment.items()}
    return subprocess.run(
        [sys.executable, "-c", DRIVER, how, *argv],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def resume(out: Path, *more: str) -> int:
    return train.main(["--resume", str(out), *more])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


@pytest.fixture(scope="module")
def straight(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert run(log, out, *EPOCHS) == 0
    return out


@pytest.fixture(scope="module")
def batches(straight: Path) -> int:
    return int(metrics(straight)[0]["step"])


def test_killed_in_the_middle_of_the_second_epoch(
    log: Path, straight: Path, batches: int, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    died = run_and_die("SIGKILL", arguments(log, out, *EPOCHS), DIE_AT_STEP=batches + batches // 2)
    assert died.returncode == -9
    assert len(metrics(out)) == 1
    assert not (out / "result.json").exists()
    assert resume(out) == 0
    assert_same_run(straight, out)


@pytest.mark.parametrize("write", [-6, 7, -9, 11])
def test_killed_between_the_files(log: Path, straight: Path, tmp_path: Path, write: int) -> None:
    """Before the first state; between a state and its best weights; before metrics; in epoch 2."""
    out = tmp_path / "run"
    died = run_and_die("SIGKILL", arguments(log, out, *EPOCHS), DIE_AT_WRITE=write)
    assert died.returncode == -9
    assert (out / "last.safetensors").exists() == (write != -6)
    assert (out / "best.safetensors").exists() == (write in (-9, 11))
    assert resume(out) == 0  # before its first state a run begins again in its place
    assert_same_run(straight, out)


def test_interrupted_with_ctrl_c(log: Path, straight: Path, batches: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    step = batches + 2
    died = run_and_die("SIGINT", arguments(log, out, *EPOCHS), DIE_AT_STEP=step)
    assert died.returncode == 130
    assert f"interrupted at step {step} (epoch 2)" in died.stderr
    assert f"mclrec-fast train --resume {out}" in died.stderr
    assert "Traceback" not in died.stderr
    progress = checkpoint.load_state(out / "last.safetensors").progress
    assert (progress.epoch, progress.batch, progress.step) == (1, 2, step)
    assert resume(out) == 0
    assert_same_run(straight, out)


def test_interrupted_while_validating(
    log: Path, straight: Path, batches: int, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    died = run_and_die("SIGINT", arguments(log, out, *EPOCHS), DIE_AT_STEP=batches)
    assert died.returncode == 130
    assert resume(out) == 0
    assert_same_run(straight, out)


def test_terminated(log: Path, straight: Path, batches: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    died = run_and_die("SIGTERM", arguments(log, out, *EPOCHS), DIE_AT_STEP=2 * batches + 1)
    assert died.returncode == 143
    assert resume(out) == 0
    assert_same_run(straight, out)


def test_more_epochs_on_a_finished_run(log: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "1") == 0
    assert resume(out, "--epochs", "3") == 0
    assert_same_run(straight, out)


def test_more_steps_after_an_end_inside_an_epoch(
    log: Path, straight: Path, batches: int, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(log, out, *EPOCHS, "--max-steps", str(2)) == 0
    assert resume(out, "--max-steps", str(batches + 3)) == 0
    assert [record["step"] for record in metrics(out)] == [batches, batches + 3]
    assert resume(out, "--set", "max_steps=none") == 0
    assert_same_run(straight, out)


def test_states_inside_an_epoch_change_nothing(log: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    died = run_and_die("SIGKILL", arguments(log, out, *EPOCHS, checkpoint_steps=2), DIE_AT_STEP=5)
    assert died.returncode == -9
    assert checkpoint.load_state(out / "last.safetensors").progress.step == 4
    assert resume(out) == 0
    assert_same_run(straight, out)


def test_resuming_a_finished_run_says_its_result_again(straight: Path, tmp_path: Path) -> None:
    before = (straight / "last.safetensors").read_bytes()
    assert resume(straight) == 0
    assert (straight / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--seed", "2"], "keeps its seed = 1"),
        (["--set", "beta=0.3"], "keeps its beta = 0.1"),
        (["--model", "sasrec"], "keeps its model = mclrec"),
        (["--out", "elsewhere"], "give one of them"),
    ],
)
def test_changes_that_would_make_another_run(
    straight: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert resume(straight, *more) == 2
    assert words in capsys.readouterr().err


def test_other_data_is_refused(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_log(tmp_path / "other.txt", seed=3)
    assert resume(straight, "--data", str(other)) == 2
    assert "is not the data of" in capsys.readouterr().err


def test_no_run_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume(tmp_path / "nowhere") == 2
    assert "no such directory" in capsys.readouterr().err
    assert resume(tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_damaged_state_is_said(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "1") == 0
    state = out / "last.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    assert resume(out) == 2
    assert "last.safetensors: not a readable checkpoint" in capsys.readouterr().err


def test_two_processes_cannot_share_a_run(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    call = TrainingStep.__call__
    codes: list[int] = []

    def step_with_a_rival(self: TrainingStep, *args: object, **kwargs: object) -> object:
        if not codes:
            codes.append(resume(out))
        return call(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingStep, "__call__", step_with_a_rival)
    assert run(log, out, "--epochs", "1") == 0
    assert codes == [2]
    assert "another process is writing" in capsys.readouterr().err
