"""The TF32 switch: set on a GPU and nowhere else, refused on a CPU, never touching a ranking."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mclrec_fast import _native, evaluate
from mclrec_fast.config import Config, TrainConfig
from mclrec_fast.config_keys import Given
from mclrec_fast.errors import InputError
from mclrec_fast.ops.reference.fixed_order import full_product
from mclrec_fast.training import experiment
from tests.small_runs import run, write_log


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """What the kernels' module was told, on a machine that seems to have a GPU."""
    told: list[bool] = []
    monkeypatch.setattr(_native._cuda, "module", SimpleNamespace(allow_tf32=told.append))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_native, "backend", lambda *_: "native")
    before = torch.backends.cuda.matmul.allow_tf32
    threads = torch.get_num_threads()
    yield told
    torch.backends.cuda.matmul.allow_tf32 = before
    torch.set_num_threads(threads)


def config(**train: object) -> Config:
    return replace(Config(), train=TrainConfig(**train))  # type: ignore[arg-type]


@pytest.mark.parametrize("tf32", (True, False))
def test_torch_and_kernels_are_told(switches: list[bool], tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = not tf32
    experiment.prepare_machine(config(device="cuda", tf32=tf32))
    assert switches == [tf32]
    assert torch.backends.cuda.matmul.allow_tf32 == tf32


def test_a_cpu_changes_nothing(switches: list[bool]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    experiment.prepare_machine(config(device="cpu"))
    assert switches == []
    assert torch.backends.cuda.matmul.allow_tf32


def test_a_cpu_refuses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.txt")
    assert run(log, tmp_path / "run", "--tf32") == 2
    assert "tf32 is a mode of GPUs" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_with_it_goes_on_with_another_word_only() -> None:
    trained = config(device="cuda", tf32=True)
    to_cpu = {"device": Given("cpu", "--device")}
    with pytest.raises(InputError, match="--no-tf32"):
        experiment.changed(trained, to_cpu)
    off = to_cpu | {"tf32": Given(False, "--no-tf32")}
    assert experiment.changed(trained, off).train == TrainConfig()


def test_evaluating_such_a_run_on_a_cpu_needs_no_word(tmp_path: Path) -> None:
    log, out = write_log(tmp_path / "log.txt"), tmp_path / "run"
    assert run(log, out, "--max-steps", "1") == 0
    written = (out / "config.json").read_text()
    changed = written.replace('"tf32": false', '"tf32": true').replace('"cpu"', '"cuda"')
    (out / "config.json").write_text(changed)
    assert evaluate.main([str(out), "--device", "cpu"]) == 0
    assert evaluate.main([str(out), "--device", "cpu", "--tf32"]) == 2


def test_a_full_product_puts_the_switch_back(switches: list[bool]) -> None:
    """Tensors of a GPU are told from others by `is_cuda` alone."""

    class Factor:
        is_cuda = True

        def __matmul__(self, _: object) -> bool:
            return torch.backends.cuda.matmul.allow_tf32

    for allowed in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        assert full_product(Factor(), Factor()) is False  # type: ignore[arg-type]
        assert torch.backends.cuda.matmul.allow_tf32 == allowed
