"""Bad input to the command lines: exit code 2, a message with place and remedy, nothing written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mclrec_fast.commands import evaluate, train
from tests.small_runs import arguments, run, write_log

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


def refused(capsys: Capture, argv: list[str]) -> str:
    """The message of a command line that is refused."""
    capsys.readouterr()
    assert train.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--epoch", "3"], ["unknown option '--epoch'", "did you mean '--epochs'"]),
        (["--epoch=3"], ["unknown option '--epoch'", "did you mean '--epochs'"]),
        (["--epochs"], ["--epochs: expected one argument", "train --help"]),
        (["epochs", "3"], ["unexpected argument 'epochs'", "did you mean '--epochs'"]),
        (["-epochs", "3"], ["unknown option '-epochs'", "did you mean '--epochs'"]),
        (["--beta", "0.3"], ["unknown option '--beta'", "did you mean '--set beta=VALUE'"]),
        (["--betta", "0.3"], ["unknown option '--betta'", "did you mean '--set beta=VALUE'"]),
        (["--batch_size=4"], ["did you mean '--set batch_size=VALUE'"]),
        (["--nonsense"], ["unknown option '--nonsense'"]),
        (["--epochs", "many"], ["--epochs: epochs must be a whole number, not 'many'"]),
        (["--epochs", "0"], ["--epochs: epochs must be at least 1, not 0"]),
        (["--seed", "-1"], ["seed must be at least 0"]),
        (["--threads", "0"], ["threads must be at least 1"]),
        (["--model", "mclerc"], ["must be one of mclrec", "did you mean 'mclrec'"]),
        (["--schedule", "papr"], ["must be one of paper", "did you mean 'paper'"]),
        (["--backend", "cuda"], ["backend must be one of auto, torch, native"]),
        (["--device", "gpu"], ["device must be one of cpu, cuda"]),
        (["--dataset", "beuty"], ["unknown data set 'beuty'", "did you mean 'beauty'"]),
        (["--set", "beta"], ["--set 'beta': expected key=value"]),
        (["--set", "betta=1"], ["unknown key 'betta'", "did you mean 'beta'"]),
        (["--set", "crop_ratio=1"], ["crop_ratio must be at least 0 and below 1"]),
        (["--set", "beta=1", "--set", "beta=2"], ["beta is given twice"]),
        (["--epochs", "3", "--set", "epochs=4"], ["given twice (--epochs and --set epochs)"]),
        (["--model", "sasrec", "--set", "beta=0.1"], ["model sasrec has no beta"]),
        (["--model", "cl4srec", "--set", "lambda=0"], ["lambda must be above 0"]),
        (["--config", "missing.toml"], ["missing.toml: No such file"]),
        (["--holdout", "none"], ["--epochs N"]),
        (["--resume", "a", "--out", "b"], ["give one of them"]),
    ],
)
def test_bad_arguments(
    capsys: Capture, log: Path, tmp_path: Path, argv: list[str], words: list[str]
) -> None:
    out = tmp_path / "run"
    given = any(word in argv for word in ("--dataset", "--resume"))
    where = [] if given else ["--data", str(log), "--out", str(out)]
    message = refused(capsys, [*where, *argv])
    for word in words:
        assert word in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("missing.txt", None, [], ["missing.txt"]),
        ("empty.txt", "", [], ["empty.txt", "empty"]),
        ("a.txt", "1 2 3 4 5\n2\n3 4 5 6\n", [], ["a.txt:2: user '2' has no items"]),
        ("a.txt", "1 2 3 4 5\n1 4 5 6\n", [], ["a.txt:2: user '1' again (first on line 1)"]),
        ("a.csv", "user,item,time\n1,2,3\n1,3,soon\n", [], ["a.csv:3", "'soon'", "a number"]),
        ("a.csv", "user,item\n1,2\n", ["--time-col", "when"], ["a.csv:1: no column 'when'"]),
        ("a.csv", "user,thing\n1,2\n", [], ["a.csv:1: no column for the item ids"]),
        ("a.csv", "user,item,item\n1,2,3\n", [], ["a.csv:1: column 'item' appears twice"]),
        ("a.csv", "user,item\n1,2\n1,2,3\n", [], ["a.csv:3: 3 fields, expected 2"]),
        (
            "a.inter",
            "user_id:token\titem_id:token\ttimestamp:float\n1\t2\tx\n",
            [],
            ["a.inter:2", "'x'"],
        ),
        ("a.txt", "1 2 3\n2 4 5\n", [], ["fewer than 3 interactions", "--holdout none"]),
        ("a.txt", "1 2 3 4\n", ["--min-user", "9"], ["--min-user 9", "leaves no interactions"]),
        ("a.txt", "1 2 3 4\n", ["--min-rating", "3"], ["--min-rating needs ratings"]),
        ("a.txt", "1 2 3 4\n", ["--holdout", "temporal"], ["temporal needs times"]),
    ],
)
def test_bad_data(
    capsys: Capture,
    tmp_path: Path,
    name: str,
    content: str | None,
    options: list[str],
    words: list[str],
) -> None:
    path, out = tmp_path / name, tmp_path / "run"
    if content is not None:
        path.write_text(content)
    message = refused(capsys, ["--data", str(path), "--out", str(out), *options])
    for word in words:
        assert word in message
    assert not out.exists()


def test_an_output_directory_that_holds_a_run(capsys: Capture, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--max-steps", "1") == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    message = refused(capsys, arguments(log, out))
    assert "already holds a run" in message
    assert f"--resume {out}" in message
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_output_path_that_is_a_file(capsys: Capture, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.write_text("mine")
    assert "is not a directory" in refused(capsys, arguments(log, out))
    assert "--out" in refused(capsys, arguments(log, out / "below"))
    assert out.read_text() == "mine"


def test_users_too_short_are_counted_and_said(capsys: Capture, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.txt")
    log.write_text(log.read_text() + "7 1 2\n8 3\n")
    assert run(log, tmp_path / "run", "--max-steps", "1") == 0
    assert "2 users with fewer than 3 interactions" in capsys.readouterr().out


def test_cuda_without_a_gpu(
    capsys: Capture, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "run"
    assert "no CUDA device" in refused(capsys, arguments(log, out, "--device", "cuda"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["arguments are required: RUN", "evaluate --help"]),
        (["nowhere"], ["RUN nowhere: no such directory"]),
        (["."], ["holds no run"]),
        (["run", "--epochs", "3"], ["unknown option '--epochs'"]),
    ],
)
def test_bad_arguments_of_evaluate(capsys: Capture, argv: list[str], words: list[str]) -> None:
    assert evaluate.main(argv) == 2
    message = capsys.readouterr().err
    for word in words:
        assert word in message


def test_help_names_every_option(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        train.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for option in (
        "--data", "--dataset", "--model", "--schedule", "--backend", "--epochs", "--max-steps",
        "--seed", "--threads", "--device", "--out", "--resume", "--config", "--set", "--json",
        "--user-col", "--item-col", "--time-col", "--rating-col", "--format", "--min-user",
        "--min-item", "--min-rating", "--dedupe", "--holdout", "--no-user-ids",
    ):  # fmt: skip
        assert f"{option} " in text or f"{option}\n" in text, option


def test_a_configuration_file_under_the_command_line(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("epochs = 7\n[train]\nmax_steps = 1\nseed = 5\n")
    out = tmp_path / "run"
    assert run(log, out, "--config", str(file), "--seed", "6") == 0
    text = (out / "config.json").read_text()
    assert '"epochs": 7' in text
    assert '"seed": 6' in text


def test_exit_codes_of_the_process(log: Path, tmp_path: Path) -> None:
    """A misspelt option is refused before torch is imported, so this is quick."""
    command = [sys.executable, "-X", "importtime", "-m", "mclrec_fast.train", "--epoch", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2
    assert "did you mean '--epochs'" in done.stderr
    assert "| torch\n" not in done.stderr


def test_a_run_does_not_import_torchs_compiler(log: Path, tmp_path: Path) -> None:
    """It takes longer than all else that a small run does."""
    argv = arguments(log, tmp_path / "run", "--epochs", "1")
    code = (
        "import sys\n"
        "from mclrec_fast.commands import main\n"
        f"assert main(['train', *{argv!r}]) == 0\n"
        f"assert main(['recommend', {str(tmp_path / 'run')!r}, '--users', '100']) == 0\n"
        "print('imported:', sorted({'sympy', 'torch._dynamo'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("imported: []\n"), done.stdout + done.stderr


def test_ctrl_c_before_the_run_begins(tmp_path: Path) -> None:
    """A data set that never arrives, and a user who gives up."""
    pipe = tmp_path / "a.txt"
    code = (
        "import os, signal, sys\n"
        "from mclrec_fast.commands import train\n"
        "from mclrec_fast.training import fit\n"
        # A background shell ignores the signal, and so would its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def slow(*_a, **_k): os.kill(os.getpid(), signal.SIGINT)\n"
        "fit.load_dataset = slow\n"
        f"sys.exit(train.main(['--data', {str(pipe)!r}, '--out', {str(tmp_path / 'run')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert "interrupted before there was a state to go on from" in done.stderr
    assert not os.path.exists(tmp_path / "run")
