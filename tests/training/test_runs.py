"""Whole small runs: what they leave behind, what they say, and what the figures mean."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mclrec_fast.commands import evaluate, train
from mclrec_fast.data import load_ids
from mclrec_fast.metrics import LISTED, RANKED
from mclrec_fast.runs import checkpoint
from tests.small_runs import metrics, result, run, write_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


@pytest.fixture(scope="module")
def finished(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run(log, out, "--epochs", "3") == 0
    return out


def test_the_run_directory_holds_everything(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.json", "env.json", "data.json", "metrics.jsonl", "metrics.csv", "best.safetensors",
        "last.safetensors", "item_ids.npz", "user_ids.npz", "valid_ranks.npz", "test_ranks.npz",
        "result.json", "train.log", "run.lock",
    }  # fmt: skip


def test_result_has_the_promised_fields(finished: Path) -> None:
    found = result(finished)
    assert found["dataset"]["users"] == 60
    assert (found["model"], found["updates"], found["seed"]) == ("mclrec", 3, 1)
    assert found["backend"] in ("torch", "native")
    assert found["epochs"] == 3
    assert 1 <= found["best_epoch"] <= 3
    for name in ("seconds_per_epoch", "sequences_per_second", "peak_rss_mb"):
        assert found[name] > 0
    names = {f"{kind}@{k}" for kind in RANKED for k in (5, 10, 20, 50)}
    for split in ("valid", "test"):
        for protocol in ("unmasked", "masked"):
            for part in (found[split], found["popularity"][split]):
                assert names <= part[protocol].keys()
            names_of_lists = {f"{kind}@{k}" for kind in LISTED for k in (5, 10, 20, 50)}
            assert part["lists"].keys() == names_of_lists


def test_metrics_are_of_every_epoch_and_the_csv_says_the_same(finished: Path) -> None:
    records = metrics(finished)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    samples = result(finished)["dataset"]["train_samples"]
    assert all(record["samples"] == samples for record in records)
    assert set(records[0]["loss"]) >= {"rec", "cl1", "cl2", "reg", "encoder", "augmenter"}
    with open(finished / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss.rec"]) for row in rows] == [r["loss"]["rec"] for r in records]
    assert [float(row["valid.masked.ndcg@10"]) for row in rows] == [
        r["valid"]["masked"]["ndcg@10"] for r in records
    ]


def test_the_log_has_one_line_an_epoch_and_no_control_characters(finished: Path) -> None:
    text = (finished / "train.log").read_text()
    lines = [line for line in text.splitlines() if line.startswith("epoch=")]
    assert [line.split()[0] for line in lines] == ["epoch=1/3", "epoch=2/3", "epoch=3/3"]
    assert all(" rec=" in line and " sequences/s=" in line for line in lines)
    assert "\x1b" not in text and "\r" not in text


def test_best_weights_are_those_of_the_best_epoch(finished: Path) -> None:
    values = [record["valid"]["unmasked"]["mrr@10"] for record in metrics(finished)]
    _, header = checkpoint.read(finished / "best.safetensors")
    assert header["epoch"] == int(np.argmax(values)) + 1 == result(finished)["best_epoch"]
    assert header["value"] == max(values) == result(finished)["valid"]["unmasked"]["mrr@10"]


def test_ranks_are_kept_with_the_users_own_ids(finished: Path) -> None:
    with np.load(finished / "test_ranks.npz") as ranks:
        assert ranks["user_id"].tolist() == [user + 100 for user in range(60)]
        hits = np.mean(ranks["masked"] < 10)
        assert hits == result(finished)["test"]["masked"]["hr@10"]
        assert (ranks["masked"] <= ranks["unmasked"]).all()


def test_evaluate_gives_the_figures_of_the_run(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for split in ("valid", "test", "popularity"):
        assert found[split] == result(finished)[split]


def test_evaluate_finds_data_that_has_moved(finished: Path, log: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.txt"
    moved.write_bytes(log.read_bytes())
    assert evaluate.main([str(finished), "--data", str(moved)]) == 0


@pytest.mark.fast
def test_json_is_the_only_thing_on_stdout(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(log, tmp_path / "run", "--epochs", "1", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result(tmp_path / "run")
    assert "epoch=1/1" in captured.err


def test_the_configuration_is_said_as_a_diff_and_saved(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(log, tmp_path / "run", "--epochs", "1") == 0
    said = capsys.readouterr().out
    assert "config: hidden_size = 8  (default 64, from --set hidden_size)" in said
    assert "config: layers" not in said
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["model"]["lambda"] == 0.1
    assert saved["train"]["threads"] == 1


def test_user_ids_can_be_kept_out(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "1", "--no-user-ids") == 0
    assert load_ids(out).user_ids is None
    with np.load(out / "test_ranks.npz") as ranks:
        assert "user_id" not in ranks
        assert len(ranks["masked"]) == 60


def test_runs_repeat_to_the_bit_and_seeds_differ(log: Path, finished: Path, tmp_path: Path) -> None:
    assert run(log, tmp_path / "again", "--epochs", "3") == 0
    assert metrics(tmp_path / "again") == metrics(finished)
    assert run(log, tmp_path / "other", "--epochs", "1", "--seed", "2") == 0
    assert metrics(tmp_path / "other")[0]["loss"] != metrics(finished)[0]["loss"]


@pytest.mark.parametrize("model", ["sasrec", "cl4srec", "gru4rec"])
def test_relatives_train(log: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--model", model, "--epochs", "1") == 0
    losses = metrics(out)[0]["loss"]
    assert losses.keys() == {"rec", "encoder"} | ({"cl1"} if model == "cl4srec" else set())
    assert all(loss > 0 for loss in losses.values())
    assert result(out)["updates"] == 1


def test_the_popularity_floor_is_a_model_too(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    argv = ["--data", str(log), "--out", str(out), "--model", "popularity", "--threads", "1"]
    assert train.main(argv) == 0
    found = result(out)
    assert found["test"] == found["popularity"]["test"]
    assert found["epochs"] == 0
    assert evaluate.main([str(out)]) == 0


def test_training_on_everything(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--holdout", "none", "--epochs", "2") == 0
    found = result(out)
    assert (found["valid"], found["test"], found["best_epoch"]) == (None, None, 2)
    best, last = (checkpoint.read(out / f"{n}.safetensors")[0] for n in ("best", "last"))
    for name, tensor in best.items():
        assert torch.equal(tensor, last[f"model/{name}"])


def test_early_stopping_counts_epochs_without_a_better_one(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "50", patience=2, learning_rate=1e-7) == 0
    values = [record["valid"]["unmasked"]["mrr@10"] for record in metrics(out)]
    best = result(out)["best_epoch"]
    assert len(values) == best + 2 < 50
    assert max(values[best:]) <= values[best - 1]
    assert all(value < values[best - 1] for value in values[: best - 1])


def test_validation_on_some_users_and_the_final_evaluation_on_all(
    log: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "3", valid_users=7) == 0
    assert {record["valid"]["samples"] for record in metrics(out)} == {7}
    assert [r["loss"] for r in metrics(out)] == [r["loss"] for r in metrics(finished)][:3]
    assert result(out)["valid"]["samples"] == result(finished)["valid"]["samples"] == 60


def test_max_steps_ends_inside_an_epoch_with_a_result(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "3", "--max-steps", "3") == 0
    (record,) = metrics(out)
    assert (record["step"], record["samples"]) == (3, 3 * 64)
    assert result(out)["steps"] == 3
    assert result(out)["test"]["samples"] == 60


def test_a_run_finds_its_log_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "log.txt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run(Path("log.txt"), Path("run"), "--epochs", "1") == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert evaluate.main(["../run"]) == 0
    assert train.main(["--resume", "../run", "--epochs", "2"]) == 0


def test_a_hit_of_the_masked_ranking_is_one_that_recommend_reaches(tmp_path: Path) -> None:
    """Users who buy the same things again: masked, a repeated target is a miss and counted."""
    log, out = tmp_path / "log.txt", tmp_path / "run"
    lines = [f"{u} " + " ".join(str((u + i) % 5 + 1) for i in range(12)) for u in range(30)]
    log.write_text("\n".join(lines) + "\n30 1 2 3 4 6\n")
    assert run(log, out, "--epochs", "2") == 0
    found = result(out)["test"]
    assert found["repeated"] == 30 and found["samples"] == 31
    assert found["masked"]["hr@50"] == 1 / 31 < found["unmasked"]["hr@50"]
    assert "30 of 31 targets repeat" in (out / "train.log").read_text()


def test_a_resumed_run_that_has_nothing_to_do_says_so(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--epochs", "50", patience=1, learning_rate=1e-7) == 0
    for more, words in (
        (["--epochs", "60"], "--set patience=N with N above 1 trains on"),
        (["--epochs", "1"], "all 1 epochs are done: --epochs N"),
    ):
        assert train.main(["--resume", str(out), *more]) == 0
        assert words in capsys.readouterr().out


def test_evaluating_what_holds_nothing_out_says_so(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(log, out, "--holdout", "none", "--epochs", "1") == 0
    assert evaluate.main([str(out)]) == 0
    assert "nothing is held out" in capsys.readouterr().out
