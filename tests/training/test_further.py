"""Training on: the catalogue grows behind what it was, and a run made so is one like any other."""

import copy
import json
import shutil
from collections.abc import Mapping
from csv import DictReader
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mclrec_fast import GRU4Rec, MCLRec, Popularity, SASRec, compare, load
from mclrec_fast.commands import evaluate, recommend, train
from mclrec_fast.config import Config
from mclrec_fast.data import Dataset, load_ids
from mclrec_fast.data.grown import grown_ids
from mclrec_fast.errors import InputError
from mclrec_fast.models.base import Model
from mclrec_fast.models.growing import grow
from mclrec_fast.runs import checkpoint
from mclrec_fast.runs.identity import identity
from mclrec_fast.training.observers import Callback
from mclrec_fast.training.step import TrainingStep
from tests.small_runs import assert_same_run, metrics

Capture = pytest.CaptureFixture[str]
CASES = Path(__file__).parents[1] / "data" / "cases"
OLD, MORE = CASES / "own_train.csv", CASES / "own_more.csv"
SMALL = {"hidden_size": 16, "inner_size": 32, "max_length": 20}
QUICK: dict[str, Any] = {"epochs": 1, "threads": 1, "verbose": False}
ALL = [MCLRec, SASRec, GRU4Rec, Popularity]


def trained(*argv: str) -> int:
    return train.main([*argv, "--threads", "1"])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "old"
    sizes = [f"--set={name}={value}" for name, value in SMALL.items()]
    argv = ["--data", str(OLD), "--model", "sasrec", "--epochs", "2", *sizes]
    assert trained(*argv, "--out", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def grown(old: Path) -> Path:
    out = old.with_name("grown")
    assert trained("--from", str(old), "--more", str(MORE), "--out", str(out)) == 0
    return out


def refused(capsys: Capture, *argv: str) -> str:
    capsys.readouterr()
    assert trained(*argv) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "Traceback" not in text
    return text


def first_of(model: Model, dataset: Dataset, **options: Any) -> dict[str, torch.Tensor]:
    """The weights that a training on begins with."""
    seen: dict[str, torch.Tensor] = {}

    class Look(Callback):
        def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
            seen.update({n: t.clone() for n, t in model.state_dict().items()})

    model.fit_partial(dataset, callbacks=[Look()], **QUICK, **options)
    return seen


def of(cls: type[Model]) -> Model:
    names = {field for field in cls.Options.__dataclass_fields__}
    return cls(**{name: value for name, value in SMALL.items() if name in names})


# The catalogue.


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("backwards", [False, True])
def test_old_rows_keep_their_bits_until_they_are_trained(cls: type[Model], backwards: bool) -> None:
    """Whatever the order of the new log, new items stand behind the old ones."""
    model = of(cls).fit(Dataset.from_file(OLD), **QUICK)
    assert model.item_ids is not None
    ids, before = model.item_ids.tolist(), {n: t.clone() for n, t in model.state_dict().items()}
    rows = np.genfromtxt(MORE, delimiter=",", names=True, dtype=np.int64)
    rows = rows[::-1] if backwards else rows
    dataset = Dataset.from_frame({name: rows[name] for name in rows.dtype.names})
    assert dataset.log.item_ids[1:51].tolist() != ids[1:] or not backwards
    began = first_of(model, dataset)
    assert model.item_ids.tolist()[:51] == ids and len(model.item_ids) == 52
    assert set(model.item_ids.tolist()) == set(dataset.log.item_ids.tolist())
    for name, tensor in before.items():
        if cls is not Popularity:  # which counts anew
            assert torch.equal(began[name][: len(tensor)], tensor), name
    assert model.n_classes == 52
    answers = model.recommend([[5, 6]], k=51, exclude_seen=False).items[0]
    assert set(answers) == set(model.item_ids.tolist()[1:])


def test_new_rows_do_not_depend_on_how_many_come() -> None:
    def rows(count: int, seed: int = 3) -> torch.Tensor:
        model = SASRec(**SMALL)
        model.start(np.arange(11), 0)
        grow(model, np.arange(11 + count), seed)
        return model.items().detach()[11:]

    many = rows(40)
    assert torch.equal(rows(7), many[:7]) and not torch.equal(rows(7, 4), many[:7])
    model = SASRec(**SMALL)
    model.start(np.arange(11), 0)
    mean = model.items().detach().double()[1:].mean(0)
    away = (many.double() - mean) / model.options.init_std  # 640 normal numbers
    assert abs(float(away.mean())) < 0.12 and abs(float(away.std()) - 1) < 0.1
    assert len(torch.unique(many)) == many.numel()


def test_a_catalogue_only_grows() -> None:
    log = Dataset.from_frame({"user": [1, 1, 1, 1], "item": [9, 3, 12, 4]}).log
    assert grown_ids(np.array([0, 4, 3]), log).tolist() == [0, 4, 3, 9, 12]
    assert grown_ids(np.array([0, 4, 3, 9, 12]), log).tolist() == [0, 4, 3, 9, 12]
    text = Dataset.from_frame({"user": [1, 1, 1, 1], "item": ["b", "4", "a", "b"]}).log
    assert grown_ids(np.array([0, 4, 3]), text).tolist() == ["", "4", "3", "b", "a"]
    there = np.array(["", "9", "x"], dtype=object)
    assert grown_ids(there, log).tolist() == ["", "9", "x", "3", "12", "4"]


# The optimizers.


@pytest.mark.parametrize("cls", [MCLRec, SASRec])
def test_moments_are_carried_or_reset(cls: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    call = TrainingStep.__call__

    def looking(self: TrainingStep, batch: Any, *, update: Any) -> Any:
        seen.append(copy.deepcopy(self.state_dict()))
        return call(self, batch, update=update)

    model = of(cls).fit(Dataset.from_file(OLD), **QUICK | {"epochs": 2})
    assert model._came_from is not None
    before = copy.deepcopy(model._came_from.optimizers())
    monkeypatch.setattr(TrainingStep, "__call__", looking)
    more = Dataset.from_file(MORE)
    model.fit_partial(more, optimizer="carry", **QUICK)
    for name, state in before.items():
        assert torch.equal(seen[0][name]["steps"], state["steps"]) and state["steps"] > 0
        for which in ("first", "second"):
            for now, then in zip(seen[0][name][which], state[which], strict=True):
                assert torch.equal(now[: len(then)], then) and not now[len(then) :].any()
    assert len(seen[0]["encoder"]["first"][0]) == 52
    seen.clear()
    model.fit_partial(more, **QUICK)
    assert all(not s["steps"] and not s["first"][0].any() for s in seen[0].values())


def test_what_is_not_there_cannot_be_carried(tmp_path: Path) -> None:
    dataset = Dataset.from_file(OLD)
    model = of(SASRec).fit(dataset, **QUICK)
    model.save(tmp_path / "saved")
    saved, ids = load(tmp_path / "saved"), model.item_ids
    with pytest.raises(InputError, match="keeps no state of an optimizer"):
        saved.fit_partial(Dataset.from_file(MORE), optimizer="carry", **QUICK)
    with pytest.raises(InputError, match="did freeze change"):
        model.fit_partial(Dataset.from_file(MORE), optimizer="carry", freeze="items", **QUICK)
    with pytest.raises(InputError, match="expected one of reset, carry"):
        model.fit_partial(Dataset.from_file(MORE), optimizer="keep", **QUICK)
    with pytest.raises(InputError, match="no weights yet"):
        SASRec().fit_partial(dataset)
    with pytest.raises(TypeError, match="a Dataset is read already"):
        model.fit_partial(dataset, user_col="user", **QUICK)
    assert model.item_ids is ids and model.n_classes == 51  # nothing was touched


@pytest.mark.parametrize("cls", [MCLRec, GRU4Rec])
def test_frozen_weights_stay(cls: type[Model]) -> None:
    model = of(cls).fit(Dataset.from_file(OLD), **QUICK)
    for which in ("items", "others"):
        began = first_of(model, Dataset.from_file(MORE), freeze=which)
        items = model.items().data_ptr()
        moved = {n: not torch.equal(t, began[n]) for n, t in model.state_dict().items()}
        (table,) = (n for n, t in model.state_dict().items() if t.data_ptr() == items)
        assert moved.pop(table) == (which == "others")
        assert any(moved.values()) == (which == "items")
    assert all(weight.requires_grad for weight in model.parameters())
    with pytest.raises(InputError, match="a Popularity has no weights to train"):
        Popularity().fit(Dataset.from_file(OLD), freeze="items")


# Runs.


def test_the_old_rows_and_the_new_are_the_whole_log(old: Path, grown: Path, tmp_path: Path) -> None:
    """`--more` with the new rows, with the whole log again, and `--data` end in the same bits."""
    new = tmp_path / "new.csv"
    before = set(OLD.read_text().splitlines()[1:])
    header, *rows = MORE.read_text().splitlines()
    new.write_text("\n".join([header, *(row for row in rows if row not in before)]) + "\n")
    argvs = {"new": ["--more", str(new)], "data": ["--data", str(MORE)]}
    for name, argv in argvs.items():
        assert trained("--from", str(old), *argv, "--out", str(tmp_path / name)) == 0
        assert metrics(tmp_path / name) == metrics(grown)
        ours = checkpoint.read(tmp_path / name / "best.safetensors")[0]
        theirs = checkpoint.read(grown / "best.safetensors")[0]
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    found = load(old).fit_partial(Dataset.from_file(MORE), epochs=2, threads=1, verbose=False)
    assert torch.equal(found.items(), load(grown).items())  # Python trains on to the same bits


def test_a_grown_run_is_one_like_any_other(old: Path, grown: Path, capsys: Capture) -> None:
    start = json.loads((grown / "data.json").read_text())["start"]
    weights = load(old).state_dict()
    assert start["weights"] == checkpoint.digest(weights) and start["items"] == 50
    assert start["run"] == checkpoint.read(old / "best.safetensors")[1]["run"]
    assert start["path"] == str(old.resolve()) and start["optimizer"] == "reset"
    ids = [load_ids(path).item_ids.tolist() for path in (old, grown)]
    assert ids[1][:51] == ids[0] and len(ids[1]) == 52
    capsys.readouterr()
    assert evaluate.main([str(grown), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    result = json.loads((grown / "result.json").read_text())
    assert found["test"] == result["test"]
    assert recommend.main([str(grown), "--k", "51", "--include-seen"]) == 0
    answers = DictReader(StringIO(capsys.readouterr().out))
    assert {int(row["item"]) for row in answers} == set(ids[1][1:])
    again = grown.with_name("again")
    argv = ["--from", str(grown), "--data", str(MORE), "--epochs", "1", "--out", str(again)]
    assert trained(*argv, "--optimizer", "carry", "--set", "learning_rate=0.01") == 0
    anew = grown.with_name("anew")
    argv = ["--data", str(MORE), "--model", "sasrec", "--epochs", "1", "--out", str(anew)]
    assert trained(*argv) == 0
    assert compare(again, anew).samples == 80


def test_a_grown_run_goes_on_to_the_same_bits(old: Path, grown: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    begin = ["--from", str(old), "--more", str(MORE), "--out", str(part)]
    assert trained(*begin, "--max-steps", "3") == 0
    assert trained("--resume", str(part), "--max-steps", "6") == 0
    assert_same_run(part, grown)
    dead = tmp_path / "dead"  # as one is that died before its first state
    dead.mkdir()
    for name in ("config.json", "data.json", "env.json", "item_ids.npz", "user_ids.npz"):
        shutil.copy(grown / name, dead / name)
    assert trained("--resume", str(dead)) == 0
    assert_same_run(dead, grown)


def test_a_run_that_died_at_once_needs_what_it_began_with(
    old: Path, grown: Path, tmp_path: Path, capsys: Capture
) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    for name in ("config.json", "env.json", "item_ids.npz", "user_ids.npz"):
        shutil.copy(grown / name, dead / name)
    card = json.loads((grown / "data.json").read_text())
    for change, words in (
        ({"path": ""}, "was never kept: train anew"),
        ({"path": str(grown)}, "has other weights by now"),
        ({"path": str(tmp_path / "gone")}, "no such directory"),
        ({"path": 3}, "what it says of the run's start is damaged"),
    ):
        (dead / "data.json").write_text(json.dumps(card | {"start": card["start"] | change}))
        assert words in refused(capsys, "--resume", str(dead))


def test_the_chain_save_grow_save_load(tmp_path: Path) -> None:
    of(MCLRec).fit(Dataset.from_file(OLD), **QUICK).save(tmp_path / "one")
    model = load(tmp_path / "one").fit_partial(Dataset.from_file(MORE), **QUICK)
    model.save(tmp_path / "two")
    loaded = load(tmp_path / "two")
    assert torch.equal(loaded.items(), model.items())
    histories = [[5, 17], [22]]
    assert loaded.recommend(histories, k=9).items == model.recommend(histories, k=9).items
    frame = {"user": [1, 1, 1, 1, 1], "item": [5, 901, 902, 17, 901]}
    loaded.fit_partial(frame, user_col="user", item_col="item", **QUICK)
    assert loaded.item_ids is not None and loaded.item_ids.tolist()[-2:] == [901, 902]


def test_older_runs_keep_their_identity() -> None:
    assert identity(Config(), "0" * 64) == (
        "7a6d7b2d18b6cd2c74e6c241cbd1ac9e431c5b8658a8f06fa3b15f7bfec6a097"
    )


# Logs that contradict what is known.


def write(
    path: Path, rows: list[tuple[Any, ...]], header: str = "user_id,item_id,timestamp"
) -> str:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def test_logs_that_contradict_the_old_one(old: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    begin = ["--from", str(old), "--out", str(out)]
    rows = [tuple(map(int, row.split(","))) for row in OLD.read_text().splitlines()[1:]]
    other = write(tmp_path / "other.csv", [(u, f"x{i}", t) for u, i, t in rows])
    said = refused(capsys, *begin, "--data", other)
    assert "none of its 50 items ('x16', 'x49'" in said and "written alike" in said
    said = refused(capsys, *begin, "--more", other)
    assert "none of its items is in the log before it" in said and "x16" in said
    late = write(tmp_path / "late.csv", [(u, i % 7 + 1, t + 10**8) for u, i, t in rows if i > 40])
    said = refused(capsys, *begin, "--data", late)
    assert "have nothing left of what" in said and "give them as --more" in said
    bare = write(tmp_path / "bare.csv", [row[:2] for row in rows], "user_id,item_id")
    assert "has no times, but the log before it has" in refused(capsys, *begin, "--more", bare)
    milli = write(tmp_path / "milli.csv", [(u, i, t * 1000) for u, i, t in rows])
    assert "in another unit" in refused(capsys, *begin, "--more", milli)
    assert "on what? --data FILE" in refused(capsys, *begin)
    assert "unknown data set 'nope'" in refused(capsys, *begin, "--dataset", "nope")
    argv = ["--from", str(tmp_path / "gone"), "--data", str(MORE), "--out", str(out)]
    assert f"--from {tmp_path / 'gone'}: no such directory" in refused(capsys, *argv)
    argv = [*begin, "--data", str(MORE)]
    assert "old is a sasrec" in refused(capsys, *argv, "--model", "mclrec")
    said = refused(capsys, *argv, "--set", "hidden_size=32")
    assert "has shape (51, 16), this model needs (51, 32)" in said
    assert "old: trains on in its own shape" in said
    assert "needs --data FILE" in refused(capsys, *begin, "--more", str(MORE), "--time-col", "t")
    assert "--from and --resume" in refused(capsys, "--from", str(old), "--resume", str(old))
    assert "--optimizer needs --from" in refused(capsys, "--data", str(OLD), "--optimizer", "carry")
    assert not out.exists()


def test_a_changed_past_is_said(old: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = [tuple(map(int, row.split(","))) for row in MORE.read_text().splitlines()[1:]]
    users = sorted({row[0] for row in rows})
    kept = [row for row in rows if row[0] not in users[:2] and row[1] != 5]
    data = write(tmp_path / "kept.csv", kept)
    capsys.readouterr()
    argv = ["--from", str(old), "--data", data, "--epochs", "1", "--out", str(tmp_path / "out")]
    assert trained(*argv) == 0
    said = capsys.readouterr().out
    assert "1 items are not in the log: they keep rows" in said
    assert "2 users of before are not in the log" in said
    assert "users' histories do not begin as they did (the first: " in said


def test_a_log_that_has_changed_since(old: Path, tmp_path: Path, capsys: Capture) -> None:
    """New rows go behind a log that is at hand; a whole log may have taken its place."""
    mine, run = tmp_path / "mine.csv", tmp_path / "run"
    shutil.copy(OLD, mine)
    assert trained("--from", str(old), "--data", str(mine), "--epochs", "1", "--out", str(run)) == 0
    shutil.copy(MORE, mine)
    begin = ["--from", str(run), "--out", str(tmp_path / "out")]
    said = refused(capsys, *begin, "--more", str(MORE))
    assert "has changed since" in said and "give the whole log with --data" in said
    assert trained(*begin, "--data", str(mine), "--epochs", "1") == 0
    assert "so histories are not compared" in capsys.readouterr().out


def test_a_log_behind_that_has_changed_since(old: Path, tmp_path: Path, capsys: Capture) -> None:
    new, run = tmp_path / "new.csv", tmp_path / "run"
    shutil.copy(MORE, new)
    argv = ["--from", str(old), "--more", str(new), "--epochs", "1", "--out", str(run)]
    assert trained(*argv) == 0
    moved = tmp_path / "moved.csv"
    new.rename(moved)
    assert "new.csv: no such file" in refused(capsys, "--resume", str(run), "--epochs", "2")
    assert trained("--resume", str(run), "--more", str(moved), "--epochs", "2") == 0
    moved.write_text(moved.read_text() + "1,5,1700000000\n")
    said = refused(capsys, "--resume", str(run), "--epochs", "3")
    assert f"or a log behind it ({moved}) has changed since {run} was made" in said


def test_rows_without_times_are_told_by_how_they_begin(tmp_path: Path) -> None:
    whole = "".join(f"{u},{i}\n" for u in range(9) for i in (u, u + 3, u + 7, u + 9, u + 2))
    log, new = tmp_path / "log.csv", tmp_path / "new.csv"
    log.write_text("user,item\n" + whole)
    new.write_text("user,item\n" + "".join(f"{u},{u + 1}\n" for u in range(4, 12)))
    both = Dataset.from_file(log, more=(str(new),)).log
    assert both.n_users == 12 and both.sequence(5).tolist()[-1] == both.item_index.find([6])[0]
    with pytest.raises(InputError, match="holds the log before it"):
        Dataset.from_file(log, more=(str(log),))
    assert Dataset.from_file(log).log.sha256 != both.sha256
