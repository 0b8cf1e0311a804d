"""The Python face: fit, evaluate, recommend, save and load, as a user without a command line."""

import copy
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mclrec_fast
from mclrec_fast import (
    Callback,
    CL4SRec,
    Dataset,
    GRU4Rec,
    MCLRec,
    Model,
    Popularity,
    Recommender,
    SASRec,
    evaluate,
    load,
)
from mclrec_fast.commands import train
from mclrec_fast.errors import InputError, RunError
from tests.backends import BACKENDS
from tests.small_runs import assert_same_run, metrics, run, write_log

MODEL = {"hidden_size": 8, "inner_size": 16, "max_length": 10, "beta": 0.1, "lambda": 0.1}
SMALL = {k: v for k, v in MODEL.items() if k not in ("beta", "lambda")}
TRAIN: dict[str, Any] = {"batch_size": 64, "threads": 1, "verbose": False}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


@pytest.fixture(scope="module")
def dataset(log: Path) -> Dataset:
    return Dataset.from_file(log)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> MCLRec:
    return MCLRec(**MODEL).fit(dataset, epochs=2, **TRAIN)


def weights_equal(a: Model, b: Model) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(ours[n].equal(theirs[n]) for n in ours)


def test_fifteen_lines_from_a_frame_to_a_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    walks = [(np.arange(8) * 3 + start) % 20 for start in rng.integers(0, 20, 50)]
    frame = pandas.DataFrame(
        {
            "customer": np.repeat([f"c{i}" for i in range(50)], 8),
            "product": [f"p{item}" for walk in walks for item in walk],
            "bought_at": pandas.Timestamp("2026-01-01", tz="UTC")
            + pandas.to_timedelta(np.tile(np.arange(8), 50), unit="D"),
        }
    ).sample(frac=1, random_state=1)
    dataset = Dataset.from_frame(
        frame, user_col="customer", item_col="product", time_col="bought_at"
    )
    model = MCLRec(**SMALL).fit(dataset, epochs=2, **TRAIN)
    table = model.recommend({"ann": ["p0", "p3"], "bob": ["p5"]}, k=3).to_frame()
    assert list(table.columns) == ["user_id", "item_id", "score", "rank"]
    assert table.user_id.tolist() == ["ann"] * 3 + ["bob"] * 3
    assert table["rank"].tolist() == [1, 2, 3] * 2
    assert set(table.item_id) <= set(frame["product"])
    assert not {"p0", "p3"} & set(table.item_id[:3])

    # The command line, from the same rows as CSV, learns the same weights.
    frame.to_csv(tmp_path / "log.csv", index=False)
    columns = ["--user-col", "customer", "--item-col", "product", "--time-col", "bought_at"]
    sets = [f"--set={k}={v}" for k, v in (SMALL | {"batch_size": 64}).items()]
    where = ["--data", str(tmp_path / "log.csv"), "--out", str(tmp_path / "run")]
    assert train.main([*where, *columns, *sets, "--epochs", "2", "--threads", "1"]) == 0
    assert weights_equal(model, load(tmp_path / "run"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_bits_are_those_of_the_command_line(
    log: Path, dataset: Dataset, tmp_path: Path, backend: str
) -> None:
    ours, theirs = tmp_path / "python", tmp_path / "command"
    MCLRec(**MODEL).fit(dataset, run=ours, epochs=3, backend=backend, **TRAIN)
    assert run(log, theirs, "--epochs", "3", "--backend", backend) == 0
    assert_same_run(ours, theirs)
    in_memory = MCLRec(**MODEL).fit(dataset, epochs=3, backend=backend, **TRAIN)
    assert weights_equal(in_memory, load(ours)) and weights_equal(in_memory, load(theirs))


def test_nothing_is_written_unless_asked(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = SASRec(**SMALL).fit(dataset, epochs=1, **TRAIN)
    model.evaluate(dataset)
    model.recommend([[1, 2]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cls", [MCLRec, CL4SRec, SASRec, GRU4Rec, Popularity])
def test_every_model_does_everything(cls: type[Model], dataset: Dataset, tmp_path: Path) -> None:
    model = cls(max_length=10)
    assert model.fit(dataset, epochs=1, **TRAIN) is model
    found = model.evaluate(dataset)
    assert evaluate(model, dataset) == found
    assert found["test"]["samples"] == 60
    answers = model.recommend(dataset, k=4)
    assert answers.users == dataset.log.user_ids.tolist()
    model.save(tmp_path / "kept")
    for again in (load(tmp_path / "kept"), cls.load(tmp_path / "kept")):
        assert type(again) is cls and again.options == model.options
        assert weights_equal(model, again)
        assert again.recommend(dataset, k=4).items == answers.items
    assert Recommender.load(tmp_path / "kept").recommend(dataset, 4).items == answers.items
    assert evaluate(tmp_path / "kept", dataset) == found
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.recommend(dataset, k=4).items == answers.items


def test_a_run_from_python_is_a_run_like_any_other(dataset: Dataset, tmp_path: Path) -> None:
    straight, out = tmp_path / "straight", tmp_path / "run"
    MCLRec(**MODEL).fit(dataset, run=straight, epochs=3, **TRAIN)
    MCLRec(**MODEL).fit(dataset, run=out, epochs=1, **TRAIN)
    with pytest.raises(InputError, match="already holds a run"):
        MCLRec(**MODEL).fit(dataset, run=out, epochs=3, **TRAIN)
    with pytest.raises(InputError, match=r"was made with beta = 0\.1, not 0\.2"):
        MCLRec(**MODEL | {"beta": 0.2}).fit(dataset, run=out, resume=True, epochs=3, **TRAIN)
    resumed = MCLRec(**MODEL).fit(dataset, run=out, resume=True, epochs=3, **TRAIN)
    assert_same_run(straight, out)
    assert weights_equal(resumed, load(straight))
    assert train.main(["--resume", str(out), "--epochs", "4"]) == 0
    assert len(metrics(out)) == 4


def test_a_frames_run_is_resumed_in_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = {"user": np.repeat(np.arange(20), 6), "item": np.tile(np.arange(1, 7), 20)}
    data = Dataset.from_frame(frame)
    out = tmp_path / "run"
    SASRec(**SMALL).fit(data, run=out, epochs=1, **TRAIN)
    assert train.main(["--resume", str(out), "--epochs", "2"]) == 2
    assert "was trained on a frame in Python" in capsys.readouterr().err
    SASRec(**SMALL).fit(data, run=out, resume=True, epochs=2, **TRAIN)
    assert len(metrics(out)) == 2


def test_scores_are_products_of_what_the_model_gives_out(fitted: MCLRec, dataset: Dataset) -> None:
    histories = [[1, 2, 3], [7], ["nothing known"]]
    h, table = fitted.encode(histories), fitted.item_embeddings
    assert h.shape == (3, 8) and table.shape == (dataset.log.n_items, 8)
    assert np.isnan(h[2]).all()
    found = fitted.recommend(histories[:2], k=3, exclude_seen=False)
    ids = dataset.log.item_ids[1:].tolist()
    for row in range(2):
        scores = table @ h[row]
        expected = [ids[i] for i in np.argsort(-scores, kind="stable")[:3]]
        assert found.items[row] == expected
        assert found.scores[row] == pytest.approx(sorted(scores, reverse=True)[:3], rel=1e-5)


def test_fitting_again_goes_on_from_the_weights(dataset: Dataset) -> None:
    model = SASRec(**SMALL).fit(dataset, epochs=2, **TRAIN)
    before = model.recommend([[1, 2]]).items
    first = copy.deepcopy(model)
    model.fit(dataset, epochs=2, seed=2, learning_rate=0.01, **TRAIN)
    assert not weights_equal(first, model)
    assert model.recommend([[1, 2]]).items == Recommender(model).recommend([[1, 2]]).items
    assert before == first.recommend([[1, 2]]).items


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"learning_rat": 1.0}, TypeError, "did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, InputError, "must be a number"),
        ({"epochs": 0}, InputError, "at least 1"),
        ({"monitor": "ndcg@9"}, InputError, "no such metric"),
        ({"monitor": "mask.ndcg@10"}, InputError, "did you mean 'masked.ndcg@10'"),
        ({"tracker": "papers"}, InputError, "one of none, tensorboard"),
        ({"resume": True}, InputError, "needs run=DIR"),
        ({"callbacks": [print]}, TypeError, "is not a Callback"),
    ],
)
def test_settings_that_do_not_exist(
    dataset: Dataset, tmp_path: Path, settings: dict[str, Any], error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        SASRec(**SMALL).fit(dataset, **({"epochs": 1} | TRAIN | settings))
    with pytest.raises(error, match=words if "resume" not in settings else "no such directory"):
        SASRec(**SMALL).fit(dataset, run=tmp_path / "r", **({"epochs": 1} | TRAIN | settings))
    assert not (tmp_path / "r").exists()


def test_options_that_do_not_exist() -> None:
    with pytest.raises(TypeError, match="SASRec has no 'hiden_size'; did you mean 'hidden_size'"):
        SASRec(hiden_size=3)
    with pytest.raises(TypeError, match="SASRec has no 'beta'"):
        SASRec(beta=0.1)
    with pytest.raises(InputError, match="not a multiple of heads"):
        SASRec(hidden_size=9)
    with pytest.raises(TypeError, match="takes one SASRecOptions"):
        SASRec(MCLRec.Options())
    assert MCLRec(MCLRec.Options(beta=0.3)).options.beta == 0.3
    assert MCLRec(**{"lambda": 0.2}).options == MCLRec(lambda_=0.2).options


def test_data_that_will_not_do(dataset: Dataset, fitted: MCLRec, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="fit takes a Dataset, not dict"):
        SASRec().fit({"user": [1], "item": [2]})  # type: ignore[arg-type]
    other = Dataset.from_file(write_log(tmp_path / "other.txt", items=31))
    with pytest.raises(InputError, match="the model knows 30 items"):
        fitted.fit(other)
    everything = Dataset.from_file(tmp_path / "other.txt", holdout="none")
    with pytest.raises(InputError, match="say how long"):
        SASRec(**SMALL).fit(everything, **TRAIN)
    assert SASRec(**SMALL).fit(everything, epochs=1, **TRAIN).item_ids is not None
    for name in ("recommend", "encode"):
        with pytest.raises(InputError, match="has no weights yet"):
            getattr(SASRec(), name)([[1]])
    with pytest.raises(InputError, match="has no weights yet"):
        SASRec().save(tmp_path / "x")
    with pytest.raises(InputError, match="not a SASRec"):
        fitted.save(tmp_path / "m")
        SASRec.load(tmp_path / "m")
    with pytest.raises(InputError, match="already holds a saved model"):
        fitted.save(tmp_path / "m")


class Recorder(Callback):
    """Keeps what it is told."""

    def __init__(self, fail_in: str = "") -> None:
        self.events: list[str] = []
        self.fail_in = fail_in

    def _tell(self, event: str) -> None:
        self.events.append(event)
        if event == self.fail_in:
            raise ValueError("no room")

    def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        assert config["model"]["hidden_size"] == 8 and dataset["users"] == 60
        self._tell("started")

    def batch(self, step: int, losses: Mapping[str, torch.Tensor]) -> None:
        assert losses["rec"].isfinite()
        self._tell("batch")

    def epoch(self, record: Mapping[str, Any]) -> None:
        self._tell("epoch")

    def best(self, record: Mapping[str, Any]) -> None:
        assert record["best_epoch"] == record["epoch"]
        self._tell("best")

    def ended(self, result: Mapping[str, Any]) -> None:
        assert result["test"]["unmasked"]["hr@10"] >= 0
        self._tell("ended")


def test_callbacks_are_told_in_order(dataset: Dataset) -> None:
    callback = Recorder()
    SASRec(**SMALL).fit(dataset, epochs=2, callbacks=[callback], **TRAIN)
    rest = [event for event in callback.events if event not in ("batch", "best")]
    assert rest == ["started", "epoch", "epoch", "ended"]
    assert callback.events.count("batch") == 2 * 6 and callback.events[-2] in ("epoch", "best")


@pytest.mark.parametrize("event", ["started", "batch", "epoch", "best", "ended"])
def test_a_callback_that_raises_is_named_and_the_run_is_kept(
    dataset: Dataset, tmp_path: Path, event: str
) -> None:
    out, straight = tmp_path / "run", tmp_path / "straight"
    SASRec(**SMALL).fit(dataset, run=straight, epochs=2, **TRAIN)
    model = SASRec(**SMALL)
    with pytest.raises(RunError, match=rf"callback Recorder\.{event} raised ValueError: no room"):
        model.fit(dataset, run=out, epochs=2, callbacks=[Recorder(event)], **TRAIN)
    SASRec(**SMALL).fit(dataset, run=out, resume=True, epochs=2, **TRAIN)
    assert_same_run(straight, out)


def test_an_interrupted_fit_leaves_a_usable_model(dataset: Dataset) -> None:
    class Impatient(Callback):
        def epoch(self, record: Mapping[str, Any]) -> None:
            if record["epoch"] == 2:
                os.kill(os.getpid(), signal.SIGINT)

    model = SASRec(**SMALL)
    with pytest.raises(KeyboardInterrupt, match="the model holds the best weights so far"):
        model.fit(dataset, epochs=50, callbacks=[Impatient()], **TRAIN)
    two = SASRec(**SMALL).fit(dataset, epochs=2, **TRAIN)
    assert weights_equal(model, two)
    assert model.recommend([[1, 2]]).items == two.recommend([[1, 2]]).items


def test_the_monitored_metric_decides(dataset: Dataset) -> None:
    records: list[Mapping[str, Any]] = []

    class Keep(Callback):
        def epoch(self, record: Mapping[str, Any]) -> None:
            records.append(record)

    settings = {"monitor": "masked.ndcg@7", "cutoffs": (3, 7), "min_delta": 0.002, "patience": 3}
    SASRec(**SMALL).fit(
        dataset, epochs=12, learning_rate=0.01, callbacks=[Keep()], **TRAIN, **settings
    )
    best, at = -1.0, 0
    for record in records:
        value = record["valid"]["masked"]["ndcg@7"]
        if at == 0 or value > best + 0.002:
            best, at = value, record["epoch"]
        assert record["best_epoch"] == at
    assert len(records) == min(12, at + 3)


def test_averaged_weights_and_a_cosine_resume_to_the_bit(dataset: Dataset, tmp_path: Path) -> None:
    settings = TRAIN | {
        "ema_decay": 0.9, "learning_rate_schedule": "cosine", "warmup_steps": 3, "epochs": 4,
    }  # fmt: skip
    straight, out = tmp_path / "straight", tmp_path / "run"
    averaged = SASRec(**SMALL).fit(dataset, run=straight, **settings)

    class Impatient(Callback):
        def batch(self, step: int, losses: Mapping[str, torch.Tensor]) -> None:
            if step == 9:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        SASRec(**SMALL).fit(dataset, run=out, callbacks=[Impatient()], **settings)
    SASRec(**SMALL).fit(dataset, run=out, resume=True, **settings)
    assert_same_run(straight, out)
    plain = SASRec(**SMALL).fit(dataset, **(settings | {"ema_decay": 0.0}))
    assert not weights_equal(averaged, plain)


def test_every_line_goes_to_the_logger(
    dataset: Dataset, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "mclrec_fast"):
        SASRec(**SMALL).fit(dataset, epochs=1, **TRAIN)
    assert any(message.startswith("epoch=1/1 ") for message in caplog.messages)
    assert capsys.readouterr().out == ""
    SASRec(**SMALL).fit(dataset, epochs=1, **(TRAIN | {"verbose": True}))
    assert "epoch=1/1 " in capsys.readouterr().out


def test_threads_are_put_back(dataset: Dataset) -> None:
    before = torch.get_num_threads()
    SASRec(**SMALL).fit(dataset, epochs=1, **(TRAIN | {"threads": before + 1}))
    assert torch.get_num_threads() == before


def test_names_are_imported_lazily_and_modules_do_not_hide_them() -> None:
    code = (
        "import sys, mclrec_fast, mclrec_fast.commands\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "import mclrec_fast.evaluate\n"
        "assert callable(mclrec_fast.evaluate)\n"
        "assert set(mclrec_fast.__all__) <= set(dir(mclrec_fast))\n"
        "for name in mclrec_fast.__all__: getattr(mclrec_fast, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mclrec_fast.nothing


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--help"], 0, "train a model on a log"),
        (["--version"], 0, mclrec_fast.__version__),
        ([], 2, "usage: mclrec-fast VERB"),
        (["trian"], 2, "did you mean 'train'"),
        (["train", "--epoch", "3"], 2, "did you mean '--epochs'"),
        (["environment", "--json"], 0, '"version"'),
    ],
)
def test_the_console_command(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mclrec_fast.commands import main

    assert main(argv) == code
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


def test_trackers_say_what_they_need(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch.utils.tensorboard", "wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("tensorboard", "wandb", "mlflow"):
        with pytest.raises(InputError, match=f"pip install {name}"):
            SASRec(**SMALL).fit(dataset, run=tmp_path / "r", epochs=1, tracker=name, **TRAIN)
    assert not (tmp_path / "r").exists()


def test_trackers_send_the_figures_of_metrics_jsonl(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {}

    class Module:
        run = None

        class SummaryWriter:
            def __init__(self, directory: str) -> None:
                sent["directory"] = directory

            def add_scalar(self, name: str, value: float, epoch: int) -> None:
                sent[f"board {name} {epoch}"] = value

            def flush(self) -> None: ...

            def close(self) -> None:
                sent["closed"] = True

        @staticmethod
        def log_params(values: dict[str, Any]) -> None:
            sent["params"] = values

        @staticmethod
        def log_metrics(values: dict[str, float], step: int) -> None:
            sent.update({f"flow {name} {step}": value for name, value in values.items()})

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Module)
    monkeypatch.setitem(sys.modules, "mlflow", Module)
    out = tmp_path / "run"
    SASRec(**SMALL).fit(dataset, run=out, epochs=1, tracker="tensorboard", **TRAIN)
    SASRec(**SMALL).fit(dataset, epochs=1, tracker="mlflow", **TRAIN)
    (record,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    value = record["valid"]["masked"]["ndcg@10"]
    assert sent["board valid.masked.ndcg@10 1"] == sent["flow valid.masked.ndcg_10 1"] == value
    assert sent["directory"] == str(out) and sent["closed"]
    assert sent["params"]["model.hidden_size"] == 8
