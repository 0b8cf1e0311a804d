"""Names, consoles, homes, limits and settings of the environment: one line each, no traceback."""

import errno
import io
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from mclrec_fast import SASRec
from mclrec_fast.commands import cli, evaluate, recommend, train
from mclrec_fast.console import Console
from mclrec_fast.data import Dataset, named
from mclrec_fast.errors import InputError
from mclrec_fast.training import machine
from tests.small_runs import arguments, run, write_log

Capture = pytest.CaptureFixture[str]
STRANGE = os.fsdecode(b"m\xff\xfe")  # no UTF-8


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


def message(capsys: Capture, code: int = 2) -> str:
    """What a refused command said: one error, whole."""
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    return said


def test_a_name_that_is_too_long(log: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(log, tmp_path / ("x" * 300), epochs=1) == 2
    assert "too long: give it a shorter name" in message(capsys)
    assert not list(tmp_path.iterdir())


def test_a_run_whose_names_are_not_utf8(log: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / STRANGE
    folder.mkdir()
    data, out = folder / f"{STRANGE}.txt", folder / "run"
    data.write_bytes(log.read_bytes())
    assert run(data, out, "--model", "sasrec", epochs=1) == 0
    assert train.main(["--resume", str(out), "--epochs", "2"]) == 0
    capsys.readouterr()
    assert evaluate.main([str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["samples"] == 60
    assert recommend.main([str(out), "--out", str(folder / "best.csv")]) == 0
    assert (folder / "best.csv").read_text().count("\n") == 601
    assert json.loads((out / "config.json").read_bytes())["data"]["data"] == str(data.resolve())


class Ascii(io.TextIOWrapper):
    """A console that has ASCII alone."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "ascii")

    def said(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined, no-any-return]


def test_an_ascii_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Ascii(), Ascii()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    log = write_log(tmp_path / "ü.txt")
    assert run(log, tmp_path / "run", "--model", "popularity", "--json") == 0
    assert "\\xfc.txt" in err.said()
    assert json.loads(out.said())["dataset"]["name"] == "ü"
    assert recommend.main([str(tmp_path / "run"), "--users", "zürich"]) == 2
    assert "z\\xfcrich" in err.said()


def test_a_closed_console(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run(log, tmp_path / "run", "--model", "popularity") == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_the_console_of_a_program_that_has_ascii() -> None:
    stream = Ascii()
    Console(stream).line("ü \udcff €")
    assert stream.said() == "\\xfc \\udcff \\u20ac\n"
    assert stream.errors == "strict"  # it is theirs


def test_more_threads_than_the_system_gives(
    log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = threading.Thread.start, []

    def at_most_three(self: threading.Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", at_most_three)
    machine.require_threads.cache_clear()
    argv = [word for word in arguments(log, tmp_path / "run") if word not in ("--threads", "1")]
    assert train.main([*argv, "--threads", "9"]) == 2
    assert "--threads 9: this system gives no more than 4 here" in message(capsys)
    assert not any(thread.is_alive() for thread in started)
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    machine.require_threads(4)


def test_threads_have_a_bound(log: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = [word for word in arguments(log, tmp_path / "run") if word not in ("--threads", "1")]
    assert train.main([*argv, "--threads", "40000"]) == 2
    assert "threads must be at least 1 and at most 1024" in message(capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a" + ".a" * 100_000 + " = 1", ["more than 64 KiB"]),
        ("\na" + ".a" * 30_000 + " = 1", ["x.toml:2: a key of more than 1000 parts"]),
        ("epochs = " + "[" * 30_000, ["not valid TOML"]),
        ("epochs = " + "9" * 400, ["epochs must be at most 2147483647, not 9999", "...99"]),
        ("epochs = " + "9" * 5_000, ["not valid TOML"]),
        ("beta = " + "9" * 400, ["beta must be a number, not 9999"]),
        ('data = "a\\u0000b"', ["data must not hold a NUL"]),
    ],
)
def test_hostile_configuration_files(
    tmp_path: Path, capsys: Capture, content: str, words: list[str]
) -> None:
    file = tmp_path / "x.toml"
    file.write_text(content)
    assert train.main(["--config", str(file)]) == 2
    said = message(capsys)
    assert all(word in said for word in words) and len(said) < 500


def test_numbers_of_thousands_of_digits(log: Path, tmp_path: Path, capsys: Capture) -> None:
    for value in ("9" * 400, "9" * 5_000):
        assert run(log, tmp_path / "run", batch_size=value) == 2
        assert "batch_size must be" in message(capsys)


@pytest.mark.parametrize("address", ["http://[bad", "", "\n", "ftp://\0", "http://a b/"])
def test_addresses_of_mirrors(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "GROUPLENS", "no-such:address")
    monkeypatch.setenv("MCLREC_FAST_GROUPLENS", address.replace("\0", ""))
    with pytest.raises(named.FetchError):
        named._movielens_from_grouplens()


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("MCLREC_FAST_CACHE", raising=False)
    pwd = pytest.importorskip("pwd")

    def nobody(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(InputError, match="no home directory here; set MCLREC_FAST_CACHE"):
        named.cache_dir()
    monkeypatch.setenv("MCLREC_FAST_CACHE", "/somewhere")
    assert named.cache_dir() == Path("/somewhere")


def test_an_unreadable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCLREC_FAST_CACHE", str(tmp_path / ("c" * 300)))
    with pytest.raises(InputError, match=r"cannot be read .*; set MCLREC_FAST_CACHE"):
        named.fetch(named.find("beauty"))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files", "a"), 1, "a: Too many.*: allow .*ulimit -n"),
        (OSError(errno.EACCES, "Permission denied", "a"), 1, "a: Permission denied: give"),
        (OSError(errno.EIO, "Input/output error"), 1, "this machine: Input/output error"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("can't allocate memory: you tried"), 1, "not enough memory .*smaller"),
        (RuntimeError("can't start new thread"), 1, "no more threads .*ulimit -u"),
        (ImportError("x.so: too many open files"), 1, "a library cannot be loaded: x.so"),
    ],
)
def test_what_the_system_refuses(error: Exception, code: int, words: str, capsys: Capture) -> None:
    def verb(_argv: Any) -> None:
        raise error

    assert cli.run_verb(verb, []) == code
    said = message(capsys)
    assert pytest.importorskip("re").search(words, said) and said.count("\n") == 1


def test_a_fault_of_ours_is_no_message() -> None:
    def verb(_argv: Any) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        cli.run_verb(verb, [])


def test_eight_file_handles_and_the_poorest_locale(tmp_path: Path) -> None:
    log = write_log(tmp_path / "ü.txt")
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", "LANG")}
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mclrec_fast.train",
            *arguments(log, tmp_path / "rün"),
            "--epochs=1",
        ],
        env=env,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8)),
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (tmp_path / "rün" / "result.json").exists()


@pytest.mark.parametrize("name", ["hidden_size", "inner_size", "max_length"])
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_absurd_sizes(name: str, backend: str, log: Path, tmp_path: Path, capsys: Capture) -> None:
    sizes = {name: 2**31 - 2}
    assert run(log, tmp_path / "run", "--model", "sasrec", "--backend", backend, **sizes) == 2
    said = message(capsys)
    assert f"{name} = {2**31 - 2}" in said and "smaller" in said
    assert run(log, tmp_path / "run", **{name: 2**62}) == 2
    assert f"{name} must be at most 2147483647" in message(capsys)


def test_a_longest_history_costs_nothing(log: Path, tmp_path: Path) -> None:
    for backend in ("torch", "auto"):
        out = tmp_path / backend
        argv = ("--model", "popularity", "--backend", backend)
        assert run(log, out, *argv, max_length=2**31 - 1) == 0
        assert recommend.main([str(out), "--out", str(tmp_path / f"{backend}.csv")]) == 0
    assert (tmp_path / "torch.csv").read_bytes() == (tmp_path / "auto.csv").read_bytes()


def test_absurd_sizes_in_python(log: Path) -> None:
    model = SASRec(hidden_size=1 << 30, heads=1)
    with pytest.raises(InputError, match="hidden_size = 1073741824"):
        model.fit(Dataset.from_file(log), epochs=1, verbose=False)
    assert not list(model.parameters())
    assert torch.get_num_threads() >= 1
