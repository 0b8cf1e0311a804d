"""What messages of the verbs and of the Python face advise helps; see test_remedies.py for logs."""

import json
import re
import shlex
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mclrec_fast
from mclrec_fast import SASRec
from mclrec_fast.commands import main
from mclrec_fast.data import Dataset
from mclrec_fast.errors import InputError
from tests.small_runs import SETTINGS, write_log

Capture = pytest.CaptureFixture[str]
Says = Callable[..., str]
SMALL = {k: v for k, v in SETTINGS.items() if k not in ("beta", "lambda", "batch_size")}
SETS = [f"--set={key}={value}" for key, value in SMALL.items()]
TRAIN = ["--model", "sasrec", "--epochs", "1", "--threads", "1", *SETS]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "log.txt")


@pytest.fixture(scope="module")
def run(log: Path) -> Path:
    assert main(["train", "--data", str(log), "--out", str(log.parent / "run"), *TRAIN]) == 0
    return log.parent / "run"


@pytest.fixture
def refused(capsys: Capture) -> Says:
    """What a command line that is refused says on standard error."""

    def say(*argv: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in argv]) == 2
        return capsys.readouterr().err

    return say


def done(*argv: object) -> None:
    assert main([str(word) for word in argv]) == 0


def test_saving(log: Path, run: Path, tmp_path: Path, refused: Says) -> None:
    """A place that is taken, a model that has nothing, and what a saved model cannot do."""
    dataset, saved = Dataset.from_file(log), tmp_path / "saved"
    with pytest.raises(InputError, match=r"this SASRec has no weights yet: SASRec\(...\)\.fit"):
        SASRec(**SMALL).save(saved)
    model = SASRec(**SMALL).fit(dataset, epochs=1, threads=1, verbose=False)
    model.save(saved)
    for there, what in ((saved, "a saved model"), (run, "a run")):
        with pytest.raises(InputError, match=f"already holds {what} .*choose another directory"):
            model.save(there)
    shutil.rmtree(saved)
    model.save(saved)
    with pytest.raises(InputError, match=r"holds a saved model .*choose another directory"):
        SASRec(**SMALL).fit(dataset, run=saved, epochs=1, verbose=False)
    again = re.search(r"weights: (--from \S+ --data) FILE", refused("train", "--resume", saved))
    assert again is not None
    more = ["--epochs", "1", "--threads", "1"]
    done("train", *shlex.split(again[1]), log, "--out", tmp_path / "next", *more)
    assert "evaluate --data FILE takes any" in refused("evaluate", saved)
    done("evaluate", saved, "--data", log)
    assert mclrec_fast.load(saved).evaluate(dataset)
    for argv in (["compare", saved, run], ["trim", saved, "--out", tmp_path / "t"]):
        said = refused(*argv)
        assert "a saved model" in said and "--resume" not in said
    assert "use optimizer reset" in refused(
        "train", "--from", saved, "--data", log, "--optimizer", "carry", "--out", tmp_path / "o"
    )
    done("train", "--from", saved, "--data", log, "--optimizer", "reset", *more,
         "--out", tmp_path / "o")  # fmt: skip


class Writer:
    """What the trackers' libraries are used for, and nothing else."""

    run = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_that_is_not_installed(
    log: Path, tmp_path: Path, refused: Says, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    """The package named is the one whose module is asked for; with it the same command trains."""
    asked = "torch.utils.tensorboard" if tracker == "tensorboard" else tracker
    argv = ["train", "--data", log, *TRAIN, "--set", f"tracker={tracker}", "--out", tmp_path / "r"]
    monkeypatch.setitem(sys.modules, asked, None)
    assert f"pip install {tracker}" in refused(*argv)
    assert not (tmp_path / "r").exists()
    module: Any = Writer() if tracker != "tensorboard" else types.SimpleNamespace()
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, asked, module)
    done(*argv)


@pytest.mark.parametrize(
    ("library", "words", "use"),
    [
        ("pandas", "pip install pandas", lambda answers: answers.to_frame()),
        ("pyarrow", r"pip install pyarrow \(or \"mclrec_fast\[parquet\]\"\)",
         lambda answers: answers.to_arrow()),
    ],
)  # fmt: skip
def test_a_library_for_answers(
    run: Path, monkeypatch: pytest.MonkeyPatch, library: str, words: str, use: Any
) -> None:
    pytest.importorskip(library)
    answers = mclrec_fast.load(run).recommend([[1, 2]], k=2)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, library, None)
        with pytest.raises(InputError, match=words):
            use(answers)
    assert len(use(answers)) == 2


def test_vectors(log: Path, tmp_path: Path, refused: Says) -> None:
    items, table = np.arange(1, 31), np.ones((30, 8), np.float32)
    np.save(tmp_path / "v.npy", table)
    (tmp_path / "ids.txt").write_text("\n".join(map(str, items)))
    np.savez(tmp_path / "v.npz", ids=items, vectors=table)
    np.savez(tmp_path / "wide.npz", ids=items, vectors=np.ones((30, 16), np.float32))
    argv = ["train", "--data", log, *TRAIN, "--out"]
    from_npy, from_npz = (["--item-embeddings", tmp_path / f"v.{e}"] for e in ("npy", "npz"))
    named = ["--item-ids", tmp_path / "ids.txt"]
    said = refused(*argv, tmp_path / "x", *from_npy)
    assert "name their items with --item-ids FILE, or write an .npz with the arrays ids and" in said
    done(*argv, tmp_path / "a", *from_npy, *named)
    assert "leave it out" in refused(*argv, tmp_path / "x", *from_npz, *named)
    done(*argv, tmp_path / "b", *from_npz)
    said = refused(*argv, tmp_path / "x", "--item-embeddings", tmp_path / "wide.npz")
    wider = re.search(r"\((--set hidden_size=16), hidden_size=16\)", said)
    assert wider is not None
    argv = [word for word in argv if not str(word).startswith("--set=hidden_size")]
    argv[-1:-1] = shlex.split(wider[1])
    done(*argv, tmp_path / "c", "--item-embeddings", tmp_path / "wide.npz")


def test_exporting(run: Path, tmp_path: Path, refused: Says) -> None:
    said = refused("export", run, "--out", tmp_path / "deep" / "v.npy")
    assert "name a file in a folder that exists" in said
    said = refused("export", run, "--out", tmp_path / "vectors")
    formats = re.search(r"give one of ([\w, ]+)", said)
    assert formats is not None and "npy" in formats[1]
    done("export", run, "--out", tmp_path / "vectors", "--format", "npy")


def test_recommending_to_a_compressed_file(run: Path, tmp_path: Path, refused: Says) -> None:
    said = refused("recommend", run, "--out", tmp_path / "best.csv.gz")
    plain = re.search(r"write (\S+), or - \| gzip", said)
    assert plain is not None
    done("recommend", run, "--out", tmp_path / plain[1])
    done("recommend", run, "--out", "-")
    both = ["recommend", run, "--history", "1", "--data", tmp_path / plain[1]]
    assert "contradict each other: give one of them" in refused(*both)
    done(*both[:4])


def test_preparing(log: Path, tmp_path: Path, refused: Says) -> None:
    made = tmp_path / "made"
    done("prepare", log, "--out", made, "--min-user", "3")
    said = refused("prepare", log, "--out", made)
    assert "name a new folder, or take it away first" in said
    argv = ["train", "--data", made, *TRAIN]
    said = refused(*argv, "--min-user", "4", "--out", tmp_path / "x")
    assert "prepared with min_user = 3, not 4: leave it out, or" in said
    done(*argv, "--out", tmp_path / "a")
    said = refused(*argv, "--more", log, "--out", tmp_path / "x")
    assert "--more is for prepare: prepare FILE MORE" in said
    other = write_log(tmp_path / "other.txt", seed=1)
    text = other.read_text().splitlines()
    other.write_text("\n".join(f"9{line}" for line in text) + "\n")
    done("prepare", log, other, "--out", tmp_path / "two")
    shutil.rmtree(made)
    done("prepare", log, "--out", made, "--min-user", "4")
    done(*argv, "--min-user", "4", "--out", tmp_path / "b")


def test_parts_of_different_kinds(log: Path, tmp_path: Path, refused: Says) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    rows = [(user, item, item) for user in range(9) for item in range(user, user + 4)]
    text = "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    (folder / "a.csv").write_text(text)
    (folder / "README.md").write_text("a log\n")
    argv = ["--model", "popularity", "--out", tmp_path / "run"]
    said = refused("train", "--data", folder, *argv)
    assert "name one file, or move the others away" in said
    done("train", "--data", folder / "a.csv", *argv[:3], tmp_path / "one")
    (folder / "README.md").unlink()
    done("train", "--data", folder, *argv)


def test_tuning(log: Path, tmp_path: Path, refused: Says) -> None:
    pytest.importorskip("optuna")
    fixed = [word for word in TRAIN if not word.startswith("--set=hidden_size")]
    argv = ["tune", "--data", log, *fixed, "--trials", "1", "--out"]
    space = ["--space", "hidden_size=8,16"]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("x")
    assert "choose another" in refused(*argv, tmp_path / "taken", *space)
    assert "is given twice: keep one" in refused(*argv, tmp_path / "s", *space, *space)
    both = [*space, "--set", "hidden_size=8"]
    assert "keep one of the two" in refused(*argv, tmp_path / "s", *both)
    done(*argv, tmp_path / "s", *space)
    other = ["--space", "hidden_size=8,32"]
    assert "give the same command, or another --out" in refused(*argv, tmp_path / "s", *other)
    done(*argv, tmp_path / "s", *space)
    done(*argv, tmp_path / "t", *other)


def test_trimming(run: Path, tmp_path: Path, refused: Says) -> None:
    twin = tmp_path / "twin" / run.name
    shutil.copytree(run, twin)
    said = refused("trim", run, twin, "--out", tmp_path / "out")
    assert f"another one is called {run.name}, too: rename the directory" in said
    done("trim", run, twin.rename(twin.with_name("renamed")), "--out", tmp_path / "out")
    (tmp_path / "out" / run.name / "result.json").write_text("{}\n")
    said = refused("trim", run, "--out", tmp_path / "out")
    assert "move it, or give another --out" in said
    done("trim", run, "--out", tmp_path / "elsewhere")
    (tmp_path / "out" / run.name).rename(tmp_path / "moved")
    done("trim", run, "--out", tmp_path / "out")


def test_importing_a_whole_module(tmp_path: Path, refused: Says) -> None:
    """A pickled module is refused; its weights, saved as the message says, are looked at."""
    model = torch.nn.Linear(2, 2)
    torch.save(model, tmp_path / "model.pth")
    said = refused("import-checkpoint", tmp_path / "model.pth", "--out", tmp_path / "run")
    advice = re.search(r"torch\.save\(.*, FILE\)", said)
    assert advice is not None
    known = {"torch": torch, "model": model, "FILE": str(tmp_path / "weights.pth")}
    exec(advice[0], known)
    said = refused("import-checkpoint", tmp_path / "weights.pth", "--out", tmp_path / "run")
    assert "torch.save" not in said and "weights.pth" in said


def test_what_the_command_line_of_a_run_says(run: Path, log: Path, refused: Says) -> None:
    said = refused("train", "--data", log, *TRAIN, "--device", "cuda", "--backend", "torch")
    assert "use --device cpu" in said or torch.cuda.is_available()
    with pytest.raises(InputError, match="use 'cpu'"):
        mclrec_fast.load(run, device="cuda:7")
    assert json.loads((run / "config.json").read_text())
    mclrec_fast.load(run, device="cpu")
