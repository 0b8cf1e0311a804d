"""Runs that fail: the message names the step or the file, the last good state stays."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from mclrec_fast import _files
from mclrec_fast.commands import train
from mclrec_fast.errors import RunError
from mclrec_fast.runs import checkpoint
from mclrec_fast.runs import directory as run_directory
from mclrec_fast.training.step import TrainingStep
from tests.small_runs import assert_same_run, run, write_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


def require_good_state(out: Path, step: int) -> None:
    state = checkpoint.load_state(out / "last.safetensors")
    assert state.progress.step == step
    assert all(bool(tensor.isfinite().all()) for tensor in state.model.values())
    assert not list(out.glob(".*.tmp"))
    assert not (out / "result.json").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_names_its_step(
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    bad: float,
) -> None:
    call = TrainingStep.__call__

    def step(self: TrainingStep, *args: Any, update: int) -> dict[str, torch.Tensor]:
        losses = call(self, *args, update=update)
        batch = update // self.updates_per_batch
        return losses | ({"rec": torch.tensor(bad)} if batch == 7 else {})

    monkeypatch.setattr(TrainingStep, "__call__", step)
    assert run(log, tmp_path / "run", "--epochs", "3") == 1
    message = capsys.readouterr().err
    assert f"loss rec is {bad} at step 8 (epoch 2)" in message
    assert "learning_rate" in message
    require_good_state(tmp_path / "run", step=6)


def test_a_learning_rate_out_of_this_world(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(log, tmp_path / "run", "--epochs", "3", learning_rate=1e30) == 1
    # The encoder's first step throws its weights away; the augmenters are the next to see it.
    assert "loss augmenter is nan at step 1 (epoch 1)" in capsys.readouterr().err
    require_good_state(tmp_path / "run", step=0)


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors", "metrics.jsonl"])
def test_a_full_disk_keeps_the_last_good_state_and_the_run_goes_on(
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    out, straight = tmp_path / "run", tmp_path / "straight"
    assert run(log, straight, "--epochs", "3") == 0
    writes = 0
    open_new = _files.writing_atomically

    @contextlib.contextmanager
    def full_in_the_second_epoch(path: Path, **private: bool) -> Iterator[IO[bytes]]:
        nonlocal writes
        writes += path.name == name
        with monkeypatch.context() as patch, open_new(path, **private) as file:
            if path.name == name and writes == 3 - (name != "last.safetensors"):
                patch.setattr(os, "fsync", no_space)
            yield file

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "writing_atomically", full_in_the_second_epoch)
        capsys.readouterr()
        assert run(log, out, "--epochs", "3") == 1
    message = capsys.readouterr().err
    assert f"cannot write {out / name}: No space left on device" in message
    assert f"--resume {out}" in message
    require_good_state(out, step=6 if name == "last.safetensors" else 12)
    assert train.main(["--resume", str(out)]) == 0
    assert_same_run(straight, out)


def test_a_full_disk_really(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    target = tmp_path / "state"
    target.write_bytes(b"good")
    aside = tmp_path / "aside"
    full = lambda *_: (os.open("/dev/full", os.O_WRONLY), aside)  # noqa: E731
    monkeypatch.setattr(_files, "_create_beside", full)
    with pytest.raises(RunError, match="No space left on device"):
        run_directory.write_atomically(target, b"new" * 100_000)
    assert target.read_bytes() == b"good"


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state"
    target.write_bytes(b"good")

    def interrupted(_source: object, _target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_directory.write_atomically(target, b"new")
    assert target.read_bytes() == b"good"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_log_that_cannot_be_written_ends_the_run_with_1(
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = run_directory.RunDirectory.log

    def full(self: run_directory.RunDirectory, line: str) -> None:
        if line.startswith("epoch=2"):
            with run_directory.writing(self.path / "train.log"):
                raise OSError(errno.ENOSPC, "No space left on device")
        said(self, line)

    monkeypatch.setattr(run_directory.RunDirectory, "log", full)
    assert run(log, tmp_path / "run", "--epochs", "3") == 1
    assert "train.log: No space left on device" in capsys.readouterr().err
    require_good_state(tmp_path / "run", step=12)
