"""Recommendations against scoring by hand and against the ranks that evaluation reports."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mclrec_fast.commands import recommend
from mclrec_fast.data import load_dataset, load_ids
from mclrec_fast.errors import InputError
from mclrec_fast.ops import gather_sequences
from mclrec_fast.recommender import Recommender
from mclrec_fast.runs.loading import load_run
from tests.backends import BACKENDS
from tests.small_runs import SETTINGS, run, write_log

Capture = pytest.CaptureFixture[str]
LENGTH = int(SETTINGS["max_length"])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


@pytest.fixture(scope="module")
def trained(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose items are the numbers 1..30 in another order inside."""
    out = tmp_path_factory.mktemp("runs") / "mclrec"
    assert run(log, out, "--epochs", "2") == 0
    return out


@pytest.fixture(scope="module")
def popular(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "popularity"
    assert run(log, out, "--model", "popularity") == 0
    return out


def by_hand(path: Path, history: list[int], k: int, excluded: set[int]) -> list[tuple[int, float]]:
    """The best items by plain scores: the encoder on the last L items, all items, one sort."""
    encoder, ids = load_run(path).model.encoder, load_ids(path).item_ids.tolist()
    inside = [ids.index(item) for item in history][-LENGTH:]
    packed = gather_sequences(
        torch.tensor(inside, dtype=torch.int32),
        torch.tensor([0]),
        torch.tensor([len(inside)], dtype=torch.int32),
        max_length=LENGTH,
        backend="torch",
    )
    with torch.no_grad():
        h = encoder(packed, seed=0, update=0, backend="torch")[0]
        scores = (encoder.item_embedding.weight @ h).tolist()
    ranked = sorted(range(1, len(ids)), key=lambda item: -scores[item])
    return [(ids[item], scores[item]) for item in ranked if ids[item] not in excluded][:k]


HISTORIES = [[3], [9, 4, 11], [*range(1, 25)], [7, 7, 7, 2, 30, 7]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_best_items_are_those_of_plain_scores(
    trained: Path, backend: str, exclude_seen: bool
) -> None:
    recommender = Recommender.load(trained, backend=backend)
    found = recommender.recommend(HISTORIES, 5, exclude_seen=exclude_seen)
    for history, items, scores in zip(HISTORIES, found.items, found.scores, strict=True):
        expected = by_hand(trained, history, 5, set(history) if exclude_seen else set())
        assert items == [item for item, _ in expected]
        assert scores == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-6)
    assert found.unknown.tolist() == [0, 0, 0, 0]


def test_the_history_is_excluded_beyond_what_the_model_looks_at(trained: Path) -> None:
    history = list(range(1, 31 - 4))
    assert len(history) > LENGTH
    items = Recommender.load(trained).recommend([history], 30).items[0]
    assert sorted(items) == [27, 28, 29, 30]  # fewer than k: the catalogue has no more


def test_the_rank_of_the_test_target_is_its_place(trained: Path, log: Path) -> None:
    data = load_dataset(data=str(log)).log
    with np.load(trained / "test_ranks.npz") as ranks:
        rows, masked, ties = (ranks[name] for name in ("user", "masked", "masked_ties"))
    histories = [data.item_ids[data.sequence(row)].tolist() for row in rows]
    found = Recommender.load(trained).recommend([h[:-1] for h in histories], 10)
    checked = 0
    for items, history, rank, tied in zip(found.items, histories, masked, ties, strict=True):
        if tied or history[-1] in history[:-1]:
            continue
        assert items.index(history[-1]) == rank if rank < 10 else history[-1] not in items
        checked += rank < 10
    assert checked > 5


def test_unknown_items_are_passed_over_and_counted(trained: Path) -> None:
    recommender = Recommender.load(trained)
    found = recommender.recommend([["31", 9, "x", "4", 11], ["nobody", 99], [], (9, 4, 11)], 3)
    assert found.items[0] == found.items[3] == recommender.recommend([[9, 4, 11]], 3).items[0]
    assert found.items[1] == found.items[2] == found.scores[1] == []
    assert found.unknown.tolist() == [2, 2, 0, 0]


def test_ids_of_any_integer_kind_and_what_is_no_id(trained: Path) -> None:
    recommender = Recommender.load(trained)
    plain = recommender.recommend([[9, 4, 11]], 3).items
    kinds = [
        [9.0, np.int32(4), torch.tensor(11)],
        np.array([9.0, 4.0, 11.0]),
        torch.tensor([9, 4, 11]),
    ]
    for history in kinds:
        assert recommender.recommend([history], 3).items == plain
    for bad in (None, float("nan"), b"9", True, 2.5, object()):
        with pytest.raises(InputError, match=r"histories\[1\], id 2: "):
            recommender.recommend([[9], [4, 11, bad]], 3)
    for k in ("3", 2.0, None, True):
        with pytest.raises(TypeError, match="k must be a whole number"):
            recommender.recommend([[9]], k)  # type: ignore[arg-type]


def test_the_answers_do_not_depend_on_the_batch(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = Recommender.load(trained)
    histories = [*HISTORIES, [], *HISTORIES]
    whole = recommender.recommend(histories, 4)
    monkeypatch.setattr(recommender, "_batch_size", 3)
    assert recommender.recommend(histories, 4)[:2] == whole[:2]


def test_a_log_of_users_is_their_histories(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("anna 9 4 11\nbert 99 3\ncarl 98\n")
    new = load_dataset(data=str(path), holdout="none").log
    found = Recommender.load(trained).recommend_log(new, 3)
    same = Recommender.load(trained).recommend([[9, 4, 11], [99, 3], [98]], 3)
    assert found[:2] == same[:2] and found.unknown.tolist() == same.unknown.tolist() == [0, 1, 1]


def test_popularity_recommends_to_everybody(popular: Path) -> None:
    recommender = Recommender.load(popular)
    scores, ids = load_run(popular).model.popularity.tolist(), recommender.item_ids.tolist()
    order = sorted(range(30), key=lambda i: -scores[i + 1])
    best = [ids[i] for i in order]
    found = recommender.recommend([[], [best[0], best[2]]], 2)
    assert found.items == [best[:2], [best[1], best[3]]]
    assert found.scores[0] == [scores[i + 1] for i in order[:2]]


@pytest.mark.parametrize("history", ["9 4 11", 9, b"9"])
def test_a_history_must_be_a_list(trained: Path, history: Any) -> None:
    with pytest.raises(TypeError, match=r"histories\[1\] is .*: a history is a list of item ids"):
        Recommender.load(trained).recommend([[3], history])


def test_k_must_be_positive(trained: Path) -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        Recommender.load(trained).recommend([[3]], 0)


def test_bad_runs_are_refused(trained: Path, popular: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        Recommender.load(tmp_path / "nowhere")
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    (broken / "item_ids.npz").unlink()
    with pytest.raises(InputError, match=r"item_ids.npz: no such file"):
        Recommender.load(broken)
    np.savez(broken / "item_ids.npz", integers=np.arange(5, dtype="<i8"))
    with pytest.raises(InputError, match="not the ids that the run was made with"):
        Recommender.load(broken)


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_the_command_line_writes_a_row_for_each_item(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    new, out = tmp_path / "new.csv", tmp_path / "found.csv"
    new.write_text("who,what,when\nb,4,2\na,99,1\nb,9,1\nb,11,3\n")
    argv = [str(trained), "--data", str(new), "--k", "3", "--user-col", "who", "--item-col", "what"]
    assert recommend.main([*argv, "--time-col", "when", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "passed over 1 interactions with items that the run does not know" in said.err
    assert "nothing to recommend for 1 of 2 histories" in said.err
    found = Recommender.load(trained).recommend([[9, 4, 11]], 3)
    expected = [
        ["b", str(rank), str(item), f"{score:.6g}"]
        for rank, item, score in zip((1, 2, 3), found.items[0], found.scores[0], strict=True)
    ]
    assert rows_of(out.read_text()) == [["user", "rank", "item", "score"], *expected]
    assert recommend.main([str(trained), "--k", "3", "--history", "9", "4", "11"]) == 0
    alone = rows_of(capsys.readouterr().out)
    assert alone == [["rank", "item", "score"], *(row[1:] for row in expected)]
    assert recommend.main([*argv, "--time-col", "when", "--out", str(out)]) == 2
    assert "exists: name another file" in capsys.readouterr().err


def test_without_data_the_users_of_the_run(trained: Path, log: Path, capsys: Capture) -> None:
    assert recommend.main([str(trained), "--k", "2", "--include-seen"]) == 0
    rows = rows_of(capsys.readouterr().out)[1:]
    data = load_dataset(data=str(log)).log
    found = Recommender.load(trained).recommend_log(data, 2, exclude_seen=False)
    assert [row[0] for row in rows[::2]] == [str(user) for user in data.user_ids]
    assert [row[2] for row in rows] == [str(item) for items in found.items for item in items]


def test_a_file_that_cannot_be_written_is_said(
    trained: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _mode: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mclrec_fast._files._create_beside", refuse)
    out = tmp_path / "found.csv"
    assert recommend.main([str(trained), "--history", "3", "--out", str(out)]) == 1
    assert f"error: --out {out}: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["arguments are required: RUN", "recommend --help"]),
        (["nowhere"], ["RUN nowhere: no such directory"]),
        (["RUN", "--k", "0"], ["--k must be at least 1, not 0"]),
        (["RUN", "--k", "many"], ["--k: invalid int value: 'many'"]),
        (["RUN", "--histroy", "3"], ["unknown option '--histroy'", "did you mean '--history'"]),
        (["RUN", "--history", "3", "--data", "x"], ["--history and --data contradict each other"]),
        (["RUN", "--user-col", "who"], ["--user-col needs --data FILE"]),
        (["RUN", "--data", "missing.txt"], ["missing.txt: no such file"]),
        (["RUN", "--out", "nowhere/x.csv"], ["--out nowhere/x.csv: no directory nowhere"]),
        (["RUN", "--out", "."], ["--out . exists"]),
    ],
)
def test_bad_arguments(trained: Path, capsys: Capture, argv: list[str], words: list[str]) -> None:
    assert recommend.main([str(trained) if word == "RUN" else word for word in argv]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.out == ""
    for word in words:
        assert word in captured.err
