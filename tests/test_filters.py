"""Allow and deny lists, users by id and similar items, against plain scores and in bad form."""

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast import Dataset, Model, Popularity, Recommender, SASRec
from mclrec_fast.commands import recommend as command
from mclrec_fast.commands import similar_items as similar_command
from mclrec_fast.errors import InputError
from mclrec_fast.filters import UnknownItemsWarning
from tests.backends import BACKENDS
from tests.small_runs import run, write_log

Capture = pytest.CaptureFixture[str]
N = 30
HISTORIES = {"ann": ["-1", "i2"], "bob": ["i5"], "cid": ["i3", "i4", "i2"]}


def name(item: int) -> str:
    """Ids of which one begins with a dash."""
    return "-1" if item == 1 else f"i{item}"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    walks = [(np.arange(8) + start) % N for start in rng.integers(0, N, 60)]
    rows = [(f"u{u}", name(int(i))) for u, walk in enumerate(walks) for i in walk]
    users, items = zip(*rows, strict=True)
    return Dataset.from_frame({"user": np.array(users), "item": np.array(items)})


@pytest.fixture(scope="module", params=[SASRec, Popularity])
def model(request: pytest.FixtureRequest, dataset: Dataset) -> Model:
    made: Model = request.param()
    return made.fit(dataset, **({"epochs": 1} if made.iterative else {}), verbose=False)


def expected(model: Model, history: list[str], keep: Any, k: int) -> list[str]:
    """The first k of the whole catalogue's order that pass."""
    order = model.recommend([history], N).items[0]
    return [item for item in order if keep(item)][:k]


@pytest.mark.parametrize("backend", BACKENDS)
def test_lists_for_everybody(model: Model, backend: str) -> None:
    recommender = Recommender(model, backend=backend)
    allowed, denied = [name(i) for i in range(0, N, 3)], [name(i) for i in range(0, N, 4)]
    for items, exclude in ((allowed, None), (None, denied), (np.array(allowed), set(denied))):
        found = recommender.recommend(HISTORIES, 5, items=items, exclude=exclude)
        fixed = recommender.filtered(items=items).filtered(exclude=exclude)
        assert fixed.recommend(HISTORIES, 5)[:2] == found[:2]
        for user, row in zip(HISTORIES, found.items, strict=True):
            assert row == expected(
                model,
                HISTORIES[user],
                lambda i, a=items, d=exclude: (a is None or i in a) and (d is None or i not in d),
                5,
            )


@pytest.mark.parametrize("backend", BACKENDS)
def test_lists_of_single_users_and_histories(model: Model, backend: str) -> None:
    recommender = Recommender(model, backend=backend)
    own = {"ann": ["i7", "i9", "i2"], "cid": ["i7", "i9", "i2"], "nobody": ["i6"]}
    found = recommender.recommend(HISTORIES, 4, items=own, exclude={"cid": ["i9"], "bob": ["i6"]})
    assert found.items[0] == expected(model, HISTORIES["ann"], {"i7", "i9"}.__contains__, 4)
    assert found.items[1] == expected(model, HISTORIES["bob"], lambda i: i != "i6", 4)
    assert found.items[2] == ["i7"]
    lists = [["i7", "i9", "i2"], [name(i) for i in range(N)], ["i7", "i9", "i2"]]
    by_place = recommender.recommend([*HISTORIES.values()], 4, items=lists, exclude=["i9"])
    assert by_place.items[0] == by_place.items[2] == ["i7"]
    assert "i9" not in by_place.items[1] and len(by_place.items[1]) == 4
    assert recommender.filtered(items=["i7"]).recommend(HISTORIES, items=own).items[0] == ["i7"]
    assert recommender.recommend({"ann": ["i2"]}, items={"ann": []}).items == [[]]


def test_lists_by_user_as_mappings_and_as_tables(model: Model) -> None:
    own = {"ann": ["i7", "i9", "i2"], "cid": ["i9", "i7", "nothing"], "nobody": ["i6"]}
    with pytest.warns(UnknownItemsWarning, match="items_per_user: 1 of 7 items are unknown"):
        found = model.recommend(HISTORIES, 4, items_per_user=own, exclude_per_user={"cid": ["i9"]})
    assert found.items[0] == expected(model, HISTORIES["ann"], {"i7", "i9"}.__contains__, 4)
    assert found.items[1] == expected(model, HISTORIES["bob"], lambda i: True, 4)
    assert found.items[2] == ["i7"]
    both = model.recommend(HISTORIES, 4, items=["i9", "i8"], items_per_user={"ann": ["i7", "i9"]})
    assert both.items[0] == ["i9"] and sorted(both.items[1]) == ["i8", "i9"]
    pandas = pytest.importorskip("pandas")
    rows = [(user, item) for user, items in own.items() for item in [*items, *items[:1]]]
    frame = pandas.DataFrame(rows, columns=["user_id", "item_id"]).sample(frac=1, random_state=0)
    with pytest.warns(UnknownItemsWarning, match="items_per_user: 1 of 5 items are unknown"):
        table = model.recommend(
            HISTORIES, 4, items_per_user=frame, exclude_per_user={"cid": ["i9"]}
        )
    assert table.items == found.items
    with pytest.warns(UnknownItemsWarning, match="items: 1 of 5"):
        assert model.recommend(HISTORIES, 4, items=frame).items[0] == found.items[0]
    numbers = pandas.DataFrame({"user": [7, 7], "item": ["i7", "i8"]})
    by_number = model.recommend({"7": ["i2"], 8: ["i2"]}, 4, items_per_user=numbers).items
    assert sorted(by_number[0]) == ["i7", "i8"] and len(by_number[1]) == 4


def test_seen_items_come_back_only_where_they_may(model: Model) -> None:
    found = model.recommend([["i2", "i3"]], items=["i2", "i4"], exclude_seen=False).items[0]
    assert sorted(found) == ["i2", "i4"]
    assert model.recommend([["i2", "i3"]], items=["i2", "i4"]).items == [["i4"]]
    assert model.recommend([["i2"]], items=["i2"]).items == [[]]


def test_unknown_items_of_a_list_are_counted_and_said(model: Model) -> None:
    with pytest.warns(UnknownItemsWarning, match=r"items: 2 of 3 items are unknown .*'x', 9"):
        assert model.recommend([["i2"]], items=["x", "i4", 9]).items == [["i4"]]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"items": []}, InputError, r"nothing left to recommend: items \(0 known\) leave none"),
        ({"exclude": [name(i) for i in range(N)]}, InputError, "nothing left to recommend"),
        ({"items": ["i2"], "exclude": ["i2"]}, InputError, r"items \(1 known\) and exclude"),
        ({"items": "i2"}, TypeError, "items is 'i2'"),
        ({"items": 7}, TypeError, "items is 7"),
        ({"items": [["i2"], ["i3"]]}, InputError, "holds 2 lists for 1 histories"),
        ({"items": {"ann": ["i2"]}}, InputError, "nobody said whose"),
        ({"exclude": ["i2", None]}, InputError, "exclude, id 1: None"),
        ({"exclude": [["i2", 2.5]]}, InputError, r"exclude\[0\], id 1: 2.5"),
        ({"items": [["i2"], "i3"]}, TypeError, r"items\[1\] is 'i3'"),
        ({"users": ["u1"]}, InputError, "users and histories are both given"),
        ({"items_per_user": ["i2"]}, TypeError, "items_per_user is .*lists of item ids by user"),
        ({"exclude_per_user": {"a": ["i2"]}}, InputError, "exclude_per_user is by user, but"),
    ],
)
def test_bad_lists(model: Model, asked: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        model.recommend([["i2"]], **asked)


def test_users_of_a_log(model: Model, dataset: Dataset) -> None:
    everybody = model.recommend(dataset, 3)
    found = model.recommend(dataset, 3, users=["u9", "u0", "u9"])
    at = list(everybody.users or [])
    assert found.items == [everybody.items[at.index(user)] for user in ("u9", "u0", "u9")]
    assert found.users == ["u9", "u0", "u9"]
    with pytest.raises(InputError, match=r"2 of 3 users are not in it \('x', 7\)"):
        model.recommend(dataset, users=["u1", "x", 7])
    with pytest.raises(TypeError, match=r"one user alone is users=\[\.\.\.\]"):
        model.recommend(dataset, users="u1")
    with pytest.raises(InputError, match="users, id 0: None"):
        model.recommend(dataset, users=[None])


def test_similar_items_are_those_of_the_highest_cosine(model: Model) -> None:
    if isinstance(model, Popularity):
        with pytest.raises(InputError, match="no vectors to compare"):
            model.similar_items("i2")
        return
    assert model.item_ids is not None
    ids, vectors = model.item_ids[1:].tolist(), model.item_embeddings.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors[ids.index("i2")]
    order = [ids[i] for i in np.argsort(-cosines) if ids[i] != "i2"]
    found = model.similar_items("i2", 5)
    assert found.items == [order[:5]]
    assert found.scores[0] == pytest.approx(sorted(cosines, reverse=True)[1:6], abs=1e-6)
    two = model.similar_items(["nothing", "i2"], 5, exclude=[order[0]])
    assert two.items == [[], order[1:6]] and two.unknown.tolist() == [1, 0]
    assert model.similar_items(["i2"], N).items == [order]
    pytest.importorskip("pandas")
    assert list(found.to_frame().columns) == ["similar_to", "item_id", "score", "rank"]


def test_a_table_of_arrow(model: Model) -> None:
    pytest.importorskip("pyarrow")
    found = model.recommend(HISTORIES, 2)
    table = found.to_arrow().to_pydict()
    assert table["user_id"] == [user for user in HISTORIES for _ in range(2)]
    assert table["item_id"] == [item for items in found.items for item in items]
    assert table["rank"] == [1, 2] * 3


# The command line.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    log = write_log(folder / "small.txt")
    assert run(log, folder / "run", "--epochs", "1") == 0
    return folder / "run"


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))[1:]


def test_the_options_are_the_arguments(trained: Path, capsys: Capture) -> None:
    argv = [str(trained), "--k", "4", "--history", "9", "4"]
    assert command.main([*argv, "--items", "1", "2", "3", "5", "--exclude", "3", "77"]) == 0
    said = capsys.readouterr()
    found = Recommender.load(trained).recommend([[9, 4]], 4, items=[1, 2, 5])
    assert [int(row[1]) for row in rows_of(said.out)] == found.items[0]
    assert "exclude: 1 of 2 items are unknown" in said.err
    assert command.main([str(trained), "--k", "1"]) == 0
    everybody = rows_of(capsys.readouterr().out)
    assert (
        command.main([str(trained), "--users", everybody[7][0], everybody[2][0], "--k", "1"]) == 0
    )
    assert rows_of(capsys.readouterr().out) == [everybody[7], everybody[2]]


def test_lists_by_user_from_files(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    log, own = tmp_path / "log.csv", tmp_path / "own.csv"
    log.write_text("user,item\n7,3\n7,4\nx,5\n")
    own.write_text("user_id,item_id\n7,9\n7,11\n7,99\nx,12\nnobody,1\n")
    argv = [str(trained), "--data", str(log), "-k", "3"]
    assert command.main([*argv, "--items-per-user", str(own), "--exclude", "9"]) == 0
    said = capsys.readouterr()
    assert [(row[0], row[2]) for row in rows_of(said.out)] == [("7", "11"), ("x", "12")]
    assert "items_per_user: 1 of 5 items are unknown" in said.err
    assert command.main(argv) == 0
    everything = [row[2] for row in rows_of(capsys.readouterr().out)[:3]]
    lines = tmp_path / "lines.txt"
    lines.write_text(f"7 {everything[0]} {everything[2]}\n")
    assert command.main([*argv, "--exclude-per-user", str(lines)]) == 0
    left = [row[2] for row in rows_of(capsys.readouterr().out)[:3]]
    assert left[0] == everything[1] and not {everything[0], everything[2]} & set(left)
    assert command.main([*argv, "--exclude-per-user", str(tmp_path / "none.csv")]) == 2
    assert "--exclude-per-user: " in (said := capsys.readouterr().err) and "no such file" in said


def test_similar_items_on_the_command_line(trained: Path, capsys: Capture) -> None:
    argv = [str(trained), "9", "77", "4", "-k", "3", "--exclude", "5"]
    assert similar_command.main(argv) == 0
    said = capsys.readouterr()
    found = Recommender.load(trained).similar_items([9, 4], 3, exclude=[5])
    rows = rows_of(said.out)
    assert said.out.startswith("similar_to,rank,item,score\n")
    assert [int(row[2]) for row in rows] == [item for items in found.items for item in items]
    assert [row[0] for row in rows] == ["9"] * 3 + ["4"] * 3
    assert "passed over 1 of 3 items, which the run does not know ('77')" in said.err
    assert similar_command.main([str(trained), "9", "--items", "77"]) == 2
    assert "nothing left to recommend" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["--history", "3", "--items-per-user", "x"],
            "--history and --items-per-user contradict each other",
        ),
        (["--history", "3", "--users", "1"], "--history and --users contradict each other"),
        (["--users", "nobody"], "1 of 1 users are not in it ('nobody')"),
        (["--history", "3", "--items", "77"], "nothing left to recommend"),
    ],
)
def test_bad_options(trained: Path, capsys: Capture, argv: list[str], words: str) -> None:
    assert command.main([str(trained), *argv]) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == ""


def test_ids_with_a_dash_and_a_narrow_console(dataset: Dataset, tmp_path: Path) -> None:
    frame = {"user": np.repeat(["a", "b"], 6), "item": np.array(["-x", "ö", "日"] * 4)}
    SASRec().fit(Dataset.from_frame(frame), epochs=1, verbose=False).save(tmp_path / "kept")
    for verb, argv, answer in (
        ("recommend", ["--history=-x", "--history=ö", "--items=日", "--items=-x"], "日"),
        ("similar_items", ["--exclude=日", "--", "-x"], "ö"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"mclrec_fast.{verb}", str(tmp_path / "kept"), *argv],
            capture_output=True,
            env={"PATH": "", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [row[-2] for row in rows_of(done.stdout.decode("utf-8"))] == [answer]


def test_numbers_below_zero_are_ids(tmp_path: Path, capsys: Capture) -> None:
    frame = {"user": np.repeat(["a", "b"], 6), "item": np.array([-1, -2, 3] * 4)}
    SASRec().fit(Dataset.from_frame(frame), epochs=1, verbose=False).save(tmp_path / "kept")
    argv = [str(tmp_path / "kept"), "--history", "-1", "3", "--exclude", "-3", "-1"]
    assert command.main(argv) == 0
    said = capsys.readouterr()
    assert [row[1] for row in rows_of(said.out)] == ["-2"]
    assert "exclude: 1 of 2 items are unknown" in said.err
