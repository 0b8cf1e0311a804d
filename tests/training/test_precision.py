"""The switches of precision: set on a GPU and nowhere else, refused on a CPU and together."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mclrec_fast import _native
from mclrec_fast.commands import evaluate
from mclrec_fast.config import Config, TrainConfig
from mclrec_fast.config_keys import Given
from mclrec_fast.errors import InputError
from mclrec_fast.ops.torch.fixed_order import full_product
from mclrec_fast.training import fit
from mclrec_fast.training.machine import machine_for
from tests.small_runs import run, write_log


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the kernels' module was told, on a machine that seems to have a GPU."""
    told: list[str] = []
    monkeypatch.setattr(_native._cuda, "module", SimpleNamespace(set_precision=told.append))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_native, "backend", lambda *_: "native")
    before = torch.backends.cuda.matmul.allow_tf32
    threads = torch.get_num_threads()
    yield told
    torch.backends.cuda.matmul.allow_tf32 = before
    torch.set_num_threads(threads)


def config(**train: object) -> Config:
    return replace(Config(), train=TrainConfig(**train))  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ("float32", "tf32", "bf16"))
def test_torch_and_kernels_are_told(switches: list[str], word: str) -> None:
    """Torch has no bf16 for float32 products: its own take TF32 then."""
    torch.backends.cuda.matmul.allow_tf32 = word == "float32"
    train = TrainConfig(device="cuda", tf32=word == "tf32", bf16=word == "bf16")
    with machine_for(train):
        pass
    assert switches == [word]
    assert torch.backends.cuda.matmul.allow_tf32 == (word != "float32")


def test_an_unknown_precision_is_refused(switches: list[str]) -> None:
    with pytest.raises(InputError, match="use float32, tf32, bf16"):
        _native.set_precision("fp8")
    assert switches == []


def test_a_cpu_changes_nothing(switches: list[str]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    with machine_for(TrainConfig(device="cpu")):
        pass
    assert switches == []
    assert torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tf32"], "tf32 is a mode of GPUs"),
        (["--bf16"], "bf16 is a mode of GPUs"),
        (["--tf32", "--bf16", "--device", "cuda"], "tf32 and bf16 are two ways to round"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    log = write_log(tmp_path / "log.txt")
    assert run(log, tmp_path / "run", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ("tf32", "bf16"))
def test_a_run_with_it_goes_on_with_another_word_only(name: str) -> None:
    trained = config(device="cuda", **{name: True})
    to_cpu = {"device": Given("cpu", "--device")}
    with pytest.raises(InputError, match=f"--no-{name}"):
        fit.changed(trained, to_cpu)
    off = to_cpu | {name: Given(False, f"--no-{name}")}
    assert fit.changed(trained, off).train == TrainConfig()


@pytest.mark.parametrize("name", ("tf32", "bf16"))
def test_evaluating_such_a_run_on_a_cpu_needs_no_word(tmp_path: Path, name: str) -> None:
    log, out = write_log(tmp_path / "log.txt"), tmp_path / "run"
    assert run(log, out, "--max-steps", "1") == 0
    written = (out / "config.json").read_text()
    changed = written.replace(f'"{name}": false', f'"{name}": true').replace('"cpu"', '"cuda"')
    (out / "config.json").write_text(changed)
    assert evaluate.main([str(out), "--device", "cpu"]) == 0
    assert evaluate.main([str(out), "--device", "cpu", f"--{name}"]) == 2


def test_a_full_product_puts_the_switch_back(switches: list[str]) -> None:
    """Tensors of a GPU are told from others by `is_cuda` alone."""

    class Factor:
        is_cuda = True

        def __matmul__(self, _: object) -> bool:
            return torch.backends.cuda.matmul.allow_tf32

    for allowed in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        assert full_product(Factor(), Factor()) is False  # type: ignore[arg-type]
        assert torch.backends.cuda.matmul.allow_tf32 == allowed
