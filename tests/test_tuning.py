"""`mclrec-fast tune`: stopped and gone on, pruned, failed; its space; that no test is looked at."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mclrec_fast import Dataset, commands, tuning
from mclrec_fast.commands import tune
from mclrec_fast.config import keys_of
from mclrec_fast.errors import InputError
from mclrec_fast.runs import checkpoint
from tests import small_runs

pytest.importorskip("optuna")
Capture = pytest.CaptureFixture[str]
SASREC = keys_of("sasrec")
SPACE = ["--space", "learning_rate=1e-3..1e-2:log", "--space", "hidden_dropout=0.1,0.3"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.write_log(tmp_path_factory.mktemp("data") / "small.txt")


def arguments(log: Path, out: Path, *more: str) -> list[str]:
    return small_runs.arguments(log, out, "--model", "sasrec", "--epochs", "3", *more)


def searched(capsys: Capture, argv: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert tune.main([*argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_stopped_and_gone_on_it_is_the_search_that_never_stopped(
    log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = searched(capsys, arguments(log, tmp_path / "whole", *SPACE, "--trials", "4"))
    argv = arguments(log, tmp_path / "parts", *SPACE, "--trials", "4")
    real = tuning._Pruner.epoch

    def then_a_signal(pruner: tuning._Pruner, record: dict[str, Any]) -> None:
        real(pruner, record)
        if pruner._trial.number == 1 and record["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(tuning._Pruner, "epoch", then_a_signal)
        assert tune.main(argv) == 130
    assert (
        "stopped in trial 1, 1 have ended; give the same command again" in capsys.readouterr().err
    )
    assert not (tmp_path / "parts/trial-001/result.json").exists()
    parts = searched(capsys, argv)
    for one, other in zip(whole["trials"], parts["trials"], strict=True):
        assert {**one, "run": ""} == {**other, "run": ""}
        assert small_runs.metrics(Path(one["run"])) == small_runs.metrics(Path(other["run"]))
        ours, theirs = (
            checkpoint.read(Path(t["run"]) / "best.safetensors")[0] for t in (one, other)
        )
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert parts["best"] == whole["best"]
    more = searched(capsys, [*argv[:-1], "5"])  # trials are those of earlier calls, too
    assert more["trials"][:4] == parts["trials"] and len(more["trials"]) == 5


def test_the_test_is_never_looked_at_and_the_best_is_trained_by_the_command(
    log: Path, tmp_path: Path, capsys: Capture
) -> None:
    found = searched(capsys, arguments(log, tmp_path / "s", *SPACE, "--trials", "2"))
    for trial in found["trials"]:
        run = Path(trial["run"])
        assert small_runs.result(run)["test"] is None and not (run / "test_ranks.npz").exists()
        assert trial["value"] == small_runs.result(run)["valid"]["unmasked"]["mrr@10"]
    words = found["command"].split()
    assert words[0] == "mclrec-fast" and commands.main(words[1:]) == 0
    best = found["trials"][found["best"]]
    trained = small_runs.result(tmp_path / "s/best")
    assert trained["valid"]["unmasked"]["mrr@10"] == best["value"]
    assert trained["test"] is not None


def test_bad_trials_are_pruned_and_impossible_ones_fail(
    log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_STARTUP", 1)
    monkeypatch.setattr(tuning, "_WARM_UP", 0)
    real = tuning.Monitor.value
    worse = iter(range(100))
    monkeypatch.setattr(tuning.Monitor, "value", lambda m, v: real(m, v) - next(worse))
    argv = arguments(log, tmp_path / "s", "--trials", "4", "--space", "heads=2,3")
    sets = [word for word in argv if not word.startswith("--set=heads")]
    found = searched(capsys, sets)
    states = [trial["state"] for trial in found["trials"]]
    assert set(states) == {"complete", "pruned", "failed"} - {"failed"} | {"fail"}
    for trial in found["trials"]:
        assert (trial["state"] == "fail") == (trial["settings"]["heads"] == 3)
    pruned = Path(found["trials"][states.index("pruned")]["run"])
    assert len(small_runs.metrics(pruned)) == 1


def test_what_is_searched_where_nobody_says(log: Path) -> None:
    assert "lambda" not in tuning.default_space("sasrec", {})
    usual = tuning.default_space("mclrec", {"hidden_size": 6, "layers": 1})
    assert usual["heads"] == "1,2" and "layers" not in usual and "beta" in usual
    for model in ("mclrec", "sasrec", "cl4srec", "gru4rec"):
        assert tuning.parse_space(tuning.default_space(model, {}), model)


def test_a_space_in_words_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('layers = [1, 3]\nlearning_rate = "1e-4..1e-2:log"\n')
    texts = tuning.read_space([str(file), "batch-size=32..64"])
    found = tuning.parse_space(texts, "sasrec")
    assert [str(part) for part in found] == ["1,3", "0.0001..0.01:log", "32..64"]
    assert [part.key for part in found] == ["layers", "learning_rate", "batch_size"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--trials", "0"], "--trials must be at least 1, not 0"),
        (["--space", "nothing"], "--space nothing: expected key=low..high"),
        (["--space", "layer=1,2"], "unknown key 'layer'; did you mean 'layers'"),
        (["--space", "beta=0.1,0.2"], "model sasrec has no beta"),
        (["--space", "gamma=3..1"], "model sasrec has no gamma"),
        (["--space", "learning_rate=3..1"], "expected low < high"),
        (["--space", "learning_rate=0..1:log"], "learning_rate must be above 0"),
        (["--space", "hidden_dropout=0..0.5:log"], "expected 0 < low < high"),
        (["--space", "hidden_dropout=0.1,1"], "hidden_dropout must be at least 0 and below 1"),
        (["--space", "layers=1.5..3"], "layers must be a whole number, not '1.5'"),
        (["--space", "layers=1,2:log"], "expected low..high, low..high:log or a,b,c"),
        (["--space", "loss=softmax..other"], "loss must be one of"),
        (["--space", "seed=1,2"], "is the same in every trial"),
        (["--space", "layers=1", "--space", "layers=2"], "layers is given twice"),
        (["--space", "max_length=5,10"], "--space max_length: is fixed, too (--set max_length)"),
        (["--holdout", "none"], "nothing is held out for it"),
    ],
)
def test_bad_input(log: Path, tmp_path: Path, capsys: Capture, argv: list[str], words: str) -> None:
    assert tune.main(arguments(log, tmp_path / "s", *argv)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_folders_of_others(log: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = arguments(log, tmp_path / "s", "--trials", "1")
    assert tune.main([*argv, *SPACE]) == 0
    assert tune.main([*argv, "--space", "hidden_dropout=0.1,0.2"]) == 2
    assert "holds a search with another space" in capsys.readouterr().err
    assert tune.main([*argv, *SPACE, "--seed", "2"]) == 2
    assert "holds a search with another fixed" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine").touch()
    assert tune.main(arguments(log, tmp_path / "other", *SPACE)) == 2
    assert "is there and holds no search" in capsys.readouterr().err
    assert tune.main(["--model", "popularity", "--data", str(log), "--out", "x"]) == 2
    assert "popularity is not trained" in capsys.readouterr().err


def test_the_same_from_python(log: Path, tmp_path: Path, capsys: Capture) -> None:
    found = searched(capsys, arguments(log, tmp_path / "a", *SPACE, "--trials", "2"))
    settings: dict[str, Any] = {k: v for k, v in small_runs.SETTINGS.items() if k in SASREC}
    trials = tuning.tune(
        Dataset.from_file(log),
        "sasrec",
        trials=2,
        out=tmp_path / "b",
        space={"learning_rate": "1e-3..1e-2:log", "hidden_dropout": [0.1, 0.3]},
        verbose=False,
        epochs=3,
        threads=1,
        **settings,
    )
    expected = [(trial["value"], trial["settings"]) for trial in found["trials"]]
    assert [(trial.value, trial.settings) for trial in trials] == expected
    best = tuning.best_of(trials)
    assert best is not None and best.number == found["best"]
    with pytest.raises(InputError, match="layers is fixed and searched"):
        tuning.tune(Dataset.from_file(log), "sasrec", out=tmp_path, space={"layers": [1]}, layers=2)


def test_without_optuna(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r'pip install "mclrec_fast\[tune\]"'):
        tune.verb(arguments(log, tmp_path / "s", *SPACE))
