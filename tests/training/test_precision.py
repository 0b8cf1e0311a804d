"""The switch of precision: what it tells kernels and torch, and what a machine cannot do.

Machines are played by a module that stands before the real one; what the kernels then compute is
tested in tests/conformance/test_rounding.py; whole trainings that round stand at the end of this
file.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mclrec_fast import Dataset, SASRec, _native, _precision
from mclrec_fast.commands import diagnose, evaluate, recommend, train, tune
from mclrec_fast.commands.train import resolve
from mclrec_fast.config import KEYS, Config, TrainConfig, checked
from mclrec_fast.config_keys import Given
from mclrec_fast.console import Console
from mclrec_fast.environment import environment, report
from mclrec_fast.errors import InputError
from mclrec_fast.ops.torch.fixed_order import full_product
from mclrec_fast.reproduction.plan import changes_on_resume, is_finished, plan
from mclrec_fast.reproduction.tables import Row, Table
from mclrec_fast.runs.loading import read_config
from mclrec_fast.training import fit
from mclrec_fast.training.machine import machine_for
from tests.small_runs import SETTINGS, assert_same_run, metrics, result, run, write_log

needs_native = pytest.mark.skipif(not _native.available(), reason=f"{_native.why_not()}")
ALL = ["float32", "bf16x3", "bf16"]
SMALL = {name: SETTINGS[name] for name in ("hidden_size", "inner_size", "heads", "max_length")}
Capture = pytest.CaptureFixture[str]


class Cpu:
    """The kernels' module on a CPU that rounds: writes down what it is told, and does not."""

    def __init__(self, real: Any) -> None:
        self.real, self.told = real, list[str]()
        self.words, self.set = ALL, "avx512"

    def usable_precisions(self) -> list[str]:
        return self.words if self.set == "avx512" else ["float32"]

    def set_precision(self, word: str) -> None:
        assert word in self.usable_precisions()
        self.told.append(word)

    def isa(self) -> str:
        return self.set

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Cpu:
    """A CPU with AMX."""
    if not _native.available():
        pytest.skip(f"{_native.why_not()}")
    fake = Cpu(_native._cpu.module)
    monkeypatch.setattr(_native._cpu, "module", fake)
    monkeypatch.setattr(_native, "cpu_model", lambda: ("a CPU", {"avx512f", "amx_bf16"}))
    return fake


@pytest.fixture
def old_cpu(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> Cpu:
    """A CPU without AMX."""
    cpu.words = ["float32"]
    monkeypatch.setattr(_native, "cpu_model", lambda: ("a CPU", {"avx512f"}))
    return cpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the GPU's kernels were told, on a machine that seems to have one."""
    told: list[str] = []
    monkeypatch.setattr(_native._cuda, "module", SimpleNamespace(set_precision=told.append))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_native, "backend", lambda *_: "native")
    before = torch.backends.cuda.matmul.allow_tf32
    yield told
    torch.backends.cuda.matmul.allow_tf32 = before


# What is told, and put back.


@pytest.mark.parametrize("word", ("float32", "tf32", "bf16"))
def test_torch_and_the_gpus_kernels_are_told(gpu: list[str], word: str) -> None:
    """Torch has no bf16 for float32 products: its own take TF32 then."""
    switch = torch.backends.cuda.matmul
    for before in (False, True):
        switch.allow_tf32 = before
        with machine_for(TrainConfig(device="cuda", precision=word)):
            assert gpu[-1] == word
            assert switch.allow_tf32 == (word != "float32")
        assert gpu[-1] == "float32"
        assert switch.allow_tf32 == before


@pytest.mark.parametrize("word", ALL)
def test_the_cpus_kernels_are_told_and_torch_is_not(cpu: Cpu, word: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with machine_for(TrainConfig(precision=word)):
            assert cpu.told == [word]
            assert torch.backends.cuda.matmul.allow_tf32
        assert cpu.told == [word, "float32"]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_what_was_before_comes_back_whatever_happens(cpu: Cpu) -> None:
    with pytest.raises(ZeroDivisionError), _precision.rounding("bf16", "cpu", "native"):
        with _precision.rounding("float32", "cpu", "native"):
            assert cpu.told == ["bf16", "float32"]
        assert cpu.told == ["bf16", "float32", "bf16"]
        raise ZeroDivisionError
    assert cpu.told[3:] == ["float32"]


def test_a_full_product_puts_the_switch_back(gpu: list[str]) -> None:
    """Tensors of a GPU are told from others by `is_cuda` alone."""

    class Factor:
        is_cuda = True

        def __matmul__(self, _: object) -> bool:
            return torch.backends.cuda.matmul.allow_tf32

    for allowed in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        assert full_product(Factor(), Factor()) is False  # type: ignore[arg-type]
        assert torch.backends.cuda.matmul.allow_tf32 == allowed


# What cannot be had.


def refusal(word: str, device: str = "cpu", backend: Any = "native") -> str:
    with pytest.raises(InputError) as error, _precision.rounding(word, device, backend):
        pass
    return str(error.value)


def test_an_unknown_word(cpu: Cpu) -> None:
    assert refusal("fp8") == "precision='fp8' is unknown: use float32, bf16x3, tf32, bf16"
    assert cpu.told == []


def test_a_cpu_without_amx(old_cpu: Cpu) -> None:
    gpu = "a GPU (--device cuda)"
    cpus = "a CPU with AMX or AVX512-BF16"
    assert refusal("bf16") == f"precision='bf16' needs {cpus}, or {gpu}; here: float32"
    assert refusal("bf16x3") == "precision='bf16x3' needs a CPU with AMX (bf16); here: float32"
    assert refusal("tf32") == f"precision='tf32' needs {gpu}; here: float32"
    assert old_cpu.told == []


def test_a_cpu_with_amx(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = "here: float32, bf16x3, bf16"
    assert refusal("tf32") == f"precision='tf32' needs a GPU (--device cuda); {everything}"
    torch_never = "the compiled kernels, as backend 'torch' never rounds on a CPU; here: float32"
    assert refusal("bf16", backend="torch") == f"precision='bf16' needs {torch_never}"
    cpu.words = ["float32"]
    assert "needs kernels built by a compiler that knows AMX" in refusal("bf16")
    cpu.set = "avx2"
    other = "precision='bf16x3' needs the instruction set avx512, not avx2"
    assert refusal("bf16x3") == f"{other}; here: float32"
    monkeypatch.setenv("MCLREC_FAST_ISA", "avx2")
    assert refusal("bf16x3") == f"{other} (MCLREC_FAST_ISA=avx2); here: float32"
    cpu.set, cpu.words = "avx512", ["float32", "bf16"]
    monkeypatch.setenv("MCLREC_FAST_AMX", "0")
    without = "precision='bf16x3' needs AMX (MCLREC_FAST_AMX=0); here: float32, bf16"
    assert refusal("bf16x3") == without


def test_a_gpu(gpu: list[str]) -> None:
    able = "on a GPU: float32, tf32, bf16"
    assert refusal("bf16x3", "cuda") == f"precision='bf16x3' needs a CPU with AMX (bf16); {able}"
    assert gpu == []


def test_every_word_of_the_configuration_is_known_here() -> None:
    assert set(KEYS["precision"].choices) == {"float32", *_precision.NEEDS}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "tf32"], "precision='tf32' needs a GPU (--device cuda); here: float32"),
        (["--set", "precision=bf16x3"], "precision='bf16x3' needs a CPU with AMX (bf16); here:"),
        (["--precision", "bf16", "--backend", "torch"], "backend 'torch' never rounds on a CPU"),
        (["--precision", "fp8"], "one of float32, bf16x3, tf32, bf16, not 'fp8'"),
        (["--tf32"], "unknown option '--tf32': tf32 is a value of precision now: --precision tf32"),
        (["--bf16"], "bf16 is a value of precision now: --precision bf16"),
        (["--no-tf32"], "tf32 is a value of precision now: --precision float32"),
        (["--set", "bf16=true"], "--set bf16: bf16 is a value of precision now: --precision bf16"),
    ],
)
def test_a_command_line_is_refused_before_anything_is_made(
    old_cpu: Cpu, log: Path, tmp_path: Path, capsys: Capture, words: list[str], message: str
) -> None:
    assert run(log, tmp_path / "run", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert not [word for word in old_cpu.told if word != "float32"]


def test_a_file_and_python_are_refused_alike(
    old_cpu: Cpu, log: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "old.toml").write_text("bf16 = true\n")
    assert run(log, tmp_path / "run", "--config", str(tmp_path / "old.toml")) == 2
    assert "precision='bf16' needs a CPU with AMX" in capsys.readouterr().err
    data = Dataset.from_file(log)
    with pytest.raises(InputError, match="precision='bf16' needs a CPU with AMX"):
        SASRec().fit(data, run=tmp_path / "run", epochs=1, precision="bf16")
    with pytest.raises(TypeError, match="tf32 is a value of precision now"):
        SASRec().fit(data, tf32=True)
    assert not (tmp_path / "run").exists()


def test_a_search_is_refused_before_its_first_trial(
    old_cpu: Cpu, log: Path, tmp_path: Path, capsys: Capture
) -> None:
    pytest.importorskip("optuna")
    from mclrec_fast.tuning import tune as search

    argv = ["--data", str(log), "--out", str(tmp_path / "search"), "--model", "sasrec"]
    assert tune.main([*argv, "--precision", "bf16"]) == 2
    assert "precision='bf16' needs" in capsys.readouterr().err
    with pytest.raises(InputError, match="precision='bf16' needs"):
        search(Dataset.from_file(log), "sasrec", out=tmp_path / "search", precision="bf16")
    assert not (tmp_path / "search").exists()


# A run that was begun elsewhere.


def set_in_config(path: Path, word: str, *, old: bool = False, device: str = "cpu") -> None:
    """Writes the precision into a run's configuration, as this version or the ones before it."""
    file = path / "config.json"
    tree = json.loads(file.read_text())
    section = tree["train"]
    section["device"] = device
    if old:
        section.pop("precision", None)
        section |= {"tf32": word == "tf32", "bf16": word == "bf16"}
    else:
        section["precision"] = word
    file.write_text(json.dumps(tree))


@pytest.fixture
def trained(log: Path, tmp_path: Path) -> Path:
    assert run(log, tmp_path / "run", "--epochs", "1") == 0
    return tmp_path / "run"


NOTE = "note: the run's precision='bf16' needs a CPU with AMX or AVX512-BF16"


@pytest.mark.parametrize("old", [False, True])
def test_a_run_is_used_where_its_precision_cannot_be_had(
    trained: Path, old_cpu: Cpu, capsys: Capture, old: bool
) -> None:
    set_in_config(trained, "bf16", old=old)
    before = (trained / "config.json").read_bytes()
    for verb in (evaluate, recommend, diagnose):
        capsys.readouterr()
        assert verb.main([str(trained)]) == 0
        said = "".join(capsys.readouterr())
        assert said.count(NOTE) == 1 and "here: float32; float32 is taken instead" in said
        assert verb.main([str(trained), "--precision", "float32"]) == 0
        assert "note:" not in "".join(capsys.readouterr())
        assert verb.main([str(trained), "--precision", "bf16"]) == 2
        assert "precision='bf16' needs" in capsys.readouterr().err
    assert set(old_cpu.told) == {"float32"}
    assert (trained / "config.json").read_bytes() == before


@pytest.mark.parametrize("word", ("tf32", "bf16"))
def test_a_gpus_run_is_evaluated_on_a_cpu(
    trained: Path, old_cpu: Cpu, capsys: Capture, word: str
) -> None:
    set_in_config(trained, word, old=True, device="cuda")
    assert evaluate.main([str(trained), "--device", "cpu"]) == 0
    assert f"note: the run's precision='{word}' needs" in capsys.readouterr().out


def test_a_run_is_used_in_its_precision_where_that_can_be_had(
    trained: Path, cpu: Cpu, capsys: Capture
) -> None:
    set_in_config(trained, "bf16x3")
    for verb in (evaluate, recommend, diagnose):
        del cpu.told[:]
        assert verb.main([str(trained)]) == 0
        assert cpu.told == ["bf16x3", "float32"]
        assert "note:" not in "".join(capsys.readouterr())


def test_a_run_goes_on_in_float32_and_keeps_to_it(
    trained: Path, old_cpu: Cpu, capsys: Capture
) -> None:
    set_in_config(trained, "bf16")
    argv = ["--resume", str(trained), "--epochs", "2"]
    assert train.main([*argv, "--precision", "bf16"]) == 2
    assert read_config(trained).train.precision == "bf16"
    assert train.main(argv) == 0
    assert capsys.readouterr().out.count(NOTE) == 1
    assert (trained / "train.log").read_text().count(NOTE) == 1
    assert read_config(trained).train.precision == "float32"
    old_cpu.words = ALL  # on the first machine again
    assert train.main([*argv[:-1], "3"]) == 0
    assert set(old_cpu.told) == {"float32"}
    assert [record["precision"] for record in metrics(trained)] == ["float32"] * 3


def test_a_change_that_is_asked_for_is_said(trained: Path, cpu: Cpu, capsys: Capture) -> None:
    argv = ["--resume", str(trained), "--precision", "bf16"]
    assert train.main([*argv, "--epochs", "2"]) == 0
    said = (trained / "train.log").read_text()
    assert "precision: float32 so far, bf16 from here on" in said
    assert " precision=bf16\n" in said
    assert train.main([*argv[:2], "--epochs", "3"]) == 0
    assert (trained / "train.log").read_text().count("from here on") == 1
    assert [record["precision"] for record in metrics(trained)] == ["float32", "bf16", "bf16"]
    assert result(trained)["precision"] == "bf16"
    assert cpu.told == ["bf16", "float32"] * 2


def test_training_on_inherits(trained: Path, old_cpu: Cpu, log: Path, capsys: Capture) -> None:
    set_in_config(trained, "bf16")
    argv = ["--from", str(trained), "--data", str(log), "--epochs", "1"]
    for number, cpu_words in enumerate((["float32"], ALL)):
        old_cpu.words = cpu_words
        out = trained.parent / f"on{number}"
        capsys.readouterr()
        assert train.main([*argv, "--out", str(out)]) == 0
        assert capsys.readouterr().out.count(NOTE) == 1 - number
        assert read_config(out).train.precision == ("float32", "bf16")[number]
    old_cpu.words = ["float32"]
    assert train.main([*argv, "--out", str(out / "x"), "--precision", "bf16"]) == 2


def test_python_goes_on_in_the_precision_of_the_run(
    cpu: Cpu, log: Path, tmp_path: Path, capsys: Capture
) -> None:
    data, path = Dataset.from_file(log), tmp_path / "run"
    SASRec(**SMALL).fit(data, run=path, epochs=1, precision="bf16")
    assert cpu.told == ["bf16", "float32"]
    model = SASRec(**SMALL).fit(data, run=path, resume=True, epochs=2)
    assert cpu.told == ["bf16", "float32"] * 2
    assert [record["precision"] for record in metrics(path)] == ["bf16", "bf16"]
    cpu.words = ["float32"]
    SASRec(**SMALL).fit(data, run=path, resume=True, epochs=3)
    assert "note: the run's precision='bf16' needs" in capsys.readouterr().out
    cpu.words = ALL
    SASRec(**SMALL).fit(data, run=path, resume=True, epochs=4, precision="float32")
    assert "precision: bf16 so far, float32 from here on" in (path / "train.log").read_text()
    assert [record["precision"] for record in metrics(path)][2:] == ["float32"] * 2
    del cpu.told[:]
    model.recommend([[1, 2]])
    model.evaluate(data)
    assert set(cpu.told) == {"float32"}
    model.evaluate(data, precision="bf16x3")
    assert cpu.told[-2:] == ["bf16x3", "float32"]


def test_python_says_as_the_command_line_that_there_is_no_run(log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        SASRec().fit(Dataset.from_file(log), run=tmp_path / "none", resume=True)


def test_a_table_knows_an_older_run_again(cpu: Cpu, log: Path, tmp_path: Path) -> None:
    """And is not content with one of another precision."""
    settings = {**SMALL, "model": "sasrec", "data": str(log), "epochs": 1, "threads": 1}
    table = Table("", (Row("SASRec", "sasrec"),))
    planned = {}
    for word in ("float32", "bf16"):
        chosen = settings | {"precision": word}
        given = checked({name: Given(value, f"--{name}") for name, value in chosen.items()})
        del given["model"]
        (planned[word],) = plan("own", table, [1], given, resolve)
        assert f"--precision {word}" in planned[word].command(tmp_path)
        assert changes_on_resume(planned[word])["precision"].value == word
    path, data = planned["float32"].path(tmp_path), Dataset.from_file(log)
    fit.start(planned["float32"].resolved, path, Console.silent())
    assert is_finished(planned["float32"], tmp_path, data)
    for kept, other in (("float32", "bf16"), ("bf16", "float32")):
        set_in_config(path, kept, old=True)
        assert is_finished(planned[kept], tmp_path, data)
        with pytest.raises(InputError, match=f"precision = {kept}, not {other}"):
            is_finished(planned[other], tmp_path, data)


def test_a_run_may_change_it_by_a_word() -> None:
    made = replace(Config(), train=TrainConfig(device="cuda", precision="tf32"))
    given = {"device": Given("cpu", "--device"), "precision": Given("float32", "--precision")}
    assert fit.changed(made, given).train == TrainConfig()


# What is said of this machine.


@pytest.mark.parametrize("words", (["float32"], ALL))
def test_the_report_says_what_can_be_had(cpu: Cpu, words: list[str]) -> None:
    cpu.words = words
    facts = environment()
    assert facts["precisions"]["cpu"] == words
    assert f"precision: {', '.join(words)}" in report(facts)
    assert facts["cpu"]["features"] == ["avx512f", "amx_bf16"]


# Kernels that round, on a CPU that can.

ABLE = _precision.usable("cpu", "native") if _native.available() else ["float32"]


@pytest.mark.skipif("bf16" not in ABLE, reason=f"rounding: usable here is {', '.join(ABLE)}")
@pytest.mark.parametrize(("word", "apart"), [("bf16x3", 2e-4), ("bf16", 2e-2)])
@pytest.mark.parametrize("model", ("mclrec", "sasrec"))
def test_a_training_that_rounds(
    log: Path, tmp_path: Path, capsys: Capture, model: str, word: str, apart: float
) -> None:
    """It learns what float32 learns, and has one outcome, whatever happens to it."""
    plain, whole, parts = (tmp_path / name for name in ("plain", "whole", "parts"))
    words = ["--model", model, "--precision", word]
    assert run(log, plain, "--model", model, "--epochs", "2") == 0
    assert run(log, whole, *words, "--epochs", "2") == 0
    assert run(log, parts, *words, "--epochs", "1") == 0
    assert train.main(["--resume", str(parts), "--epochs", "2", "--threads", "2"]) == 0
    assert_same_run(whole, parts)
    first, rounded = metrics(plain)[0]["loss"], metrics(whole)[0]["loss"]
    assert rounded["rec"] != first["rec"]
    assert rounded == pytest.approx(first, rel=apart)
    capsys.readouterr()
    assert evaluate.main([str(whole), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[split] for split in ("valid", "test")] == [
        result(whole)[split] for split in ("valid", "test")
    ]
