"""Logs of one's own for a trained run: what is asked, what is known of them, what is said.

The figures are compared with recommendations for histories that are put together here by hand.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast import Dataset, evaluate, load
from mclrec_fast.commands import evaluate as evaluate_verb
from mclrec_fast.commands import recommend, train
from mclrec_fast.data import InteractionLog
from mclrec_fast.data.other import Past, ask
from mclrec_fast.errors import InputError

Capture = pytest.CaptureFixture[str]
CASES = Path(__file__).parent / "data" / "cases"
SMALL = ["--set", "hidden_size=16", "--set", "inner_size=32", "--set", "max_length=20",
         "--model", "sasrec", "--threads", "1", "--epochs", "2"]  # fmt: skip


def trained_on(data: Path, out: Path, *more: str) -> Path:
    assert train.main(["--data", str(data), "--out", str(out), *SMALL, *more]) == 0
    return out


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_on(CASES / "own_train.csv", tmp_path_factory.mktemp("runs") / "own")


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "rated"
    return trained_on(CASES / "ratings_train.csv", out, "--min-rating", "3")


def events(name: str) -> dict[int, list[int]]:
    """The items of each user in the order of the times."""
    found: dict[int, list[int]] = {}
    with (CASES / name).open() as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["timestamp"])):
            found.setdefault(int(row["user_id"]), []).append(int(row["item_id"]))
    return found


def scored(capsys: Capture, run: Path, *argv: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert evaluate_verb.main([str(run), "--json", *argv]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def refused(capsys: Capture, code: int) -> str:
    text = capsys.readouterr().err
    assert code == 2 and text.startswith("error: ") and "Traceback" not in text
    return text


def masked_by_hand(run: Path, asked: list[tuple[list[int], int]], k: int) -> dict[str, float]:
    """Hit rate and NDCG of the recommendations for histories, by their targets."""
    found = load(run).recommend([history for history, _ in asked], k=k).items
    at = [
        items.index(target) if target in items else None
        for items, (_, target) in zip(found, asked, strict=True)
    ]
    return {
        f"hr@{k}": sum(rank is not None for rank in at) / len(at),
        f"ndcg@{k}": sum(1 / math.log2(rank + 2) for rank in at if rank is not None) / len(at),
    }


def test_new_events_continue_the_histories_of_the_run(own: Path, capsys: Capture) -> None:
    found, said = scored(capsys, own, "--data", str(CASES / "own_test.csv"))
    before, new = events("own_train.csv"), events("own_test.csv")
    asked = [([*before.get(u, []), *items[:-1]], items[-1]) for u, items in new.items()]
    asked = [(history, target) for history, target in asked if history]
    assert found["test"]["samples"] == len(asked) == 25 and found["valid"] is None
    for name, value in masked_by_hand(own, asked, 10).items():
        assert found["test"]["masked"][name] == pytest.approx(value, abs=1e-12)
    known = found["known"]
    assert (known["rows"], known["known_rows"], known["items"], known["known_items"]) == (
        173, 173, 50, 50,
    )  # fmt: skip
    assert (known["users"], known["known_users"]) == (25, len(set(before) & set(new)))
    assert known["past"] == "run" and known["learned"] == 0
    assert "what the run's log has of the user, then what the file has" in said
    assert "users 16 of 25 (64.0%); new users need no training" in said
    counts = np.bincount(
        [i for s in before.values() for i in s[: max(len(s) - 2, 0)] if len(s) > 3]
    )
    best = np.argsort(-counts, kind="stable")[0]
    assert found["popularity"]["test"]["unmasked"]["hr@5"] >= np.mean([t == best for _, t in asked])


def test_the_file_alone_and_every_event(own: Path, capsys: Capture) -> None:
    argv = ["--data", str(CASES / "own_test.csv"), "--past", "file", "--targets", "all"]
    found, said = scored(capsys, own, *argv)
    new = events("own_test.csv")
    asked = [(items[:end], items[end]) for items in new.values() for end in range(1, len(items))]
    assert found["test"]["samples"] == len(asked) == 148
    assert found["known"]["no_history"] == 25 and "25 targets have no history" in said
    for name, value in masked_by_hand(own, asked, 10).items():
        assert found["test"]["masked"][name] == pytest.approx(value, abs=1e-12)


def test_whole_histories_are_not_doubled_and_unknown_items_are_counted(
    own: Path, capsys: Capture
) -> None:
    found, said = scored(capsys, own, "--data", str(CASES / "own_more.csv"))
    items = set().union(*events("own_train.csv").values())
    known = {u: [i for i in s if i in items] for u, s in events("own_more.csv").items()}
    asked = [(s[:-1], s[-1]) for s in known.values() if len(s) > 1]
    assert found["test"]["samples"] == len(asked) == 80
    for name, value in masked_by_hand(own, asked, 10).items():
        assert found["test"]["masked"][name] == pytest.approx(value, abs=1e-12)
    assert found["known"]["past"] == "file" and found["known"]["known_items"] == 50
    assert "items 50 of 51 (98.0%)" in said
    assert "1 rows are of items that the run does not know: passed over" in said
    forced, _ = scored(capsys, own, "--data", str(CASES / "own_more.csv"), "--past", "run")
    assert forced["test"] == found["test"]  # an event of both logs counts once


def test_the_runs_own_log_says_what_was_trained_on(own: Path, capsys: Capture) -> None:
    data = str(CASES / "own_train.csv")
    plain, _ = scored(capsys, own)
    moved, _ = scored(capsys, own, "--data", data)
    assert moved["test"] == plain["test"] and moved["valid"] == plain["valid"]
    found, said = scored(capsys, own, "--data", data, "--targets", "all")
    users = [s for s in events("own_train.csv").values() if len(s) > 3]
    assert found["known"]["learned"] == sum(len(s) - 2 for s in users)  # the first ones, too
    assert "targets were trained on: not held out for this run" in said


def test_python_scores_the_same(own: Path, capsys: Capture) -> None:
    test = CASES / "own_test.csv"
    line, _ = scored(capsys, own, "--data", str(test))
    alone, _ = scored(capsys, own, "--data", str(test), "--past", "file")
    past = Dataset.from_file(CASES / "own_train.csv")
    assert evaluate(own, test, past=past)["test"] == line["test"]
    assert evaluate(own, test, past=past)["popularity"] == line["popularity"]
    found = evaluate(own, test)
    without_lists = {n: v for n, v in alone["test"].items() if n != "lists"}
    assert found["test"] == without_lists and found["popularity"] is None
    more = Dataset.from_file(CASES / "own_more.csv")
    split = load(own).evaluate(more)  # its own parts, without the row of an unknown item
    assert split["known"]["known_items"] == 50 and split["test"]["samples"] == 80
    with pytest.raises(InputError, match="targets is 'first', expected one of last, all"):
        evaluate(own, test, targets="first")


def test_logs_without_ratings_for_a_run_with_min_rating(rated: Path, capsys: Capture) -> None:
    found, said = scored(capsys, rated, "--data", str(CASES / "ratings_today.csv"))
    assert found["test"]["samples"] == 5 and found["known"]["known_users"] == 0
    assert "warning: " in said and "no ratings here, so every row is read" in said
    assert found["dataset"]["filters"] == {}
    assert recommend.main([str(rated), "--data", str(CASES / "ratings_today.csv")]) == 0
    said_too = capsys.readouterr()
    assert len(said_too.out.splitlines()) == 51 and "no ratings here" in said_too.err
    today = Dataset.from_file(CASES / "ratings_today.csv")
    assert load(rated).recommend(today).users == ["n0", "n1", "n2", "n3", "n4"]
    argv = [str(rated), "--data", str(CASES / "ratings_today.csv"), "--rating-col", "stars"]
    for verb in (evaluate_verb, recommend):
        assert "no column 'stars' (--rating-col)" in refused(capsys, verb.main(argv))


@pytest.mark.parametrize("verb", [evaluate_verb, recommend])
def test_columns_of_the_run_need_not_be_there(verb: Any, tmp_path: Path, capsys: Capture) -> None:
    """A run whose columns were named, and a log with the usual names, or another layout."""
    rows = [row.split(",") for row in (CASES / "own_train.csv").read_text().splitlines()[1:]]
    odd = tmp_path / "odd.csv"
    odd.write_text("who;what;when;n\n" + "".join(f"{u};{i};{t};{t}\n" for u, i, t in rows))
    names = ["--user-col", "who", "--item-col", "what", "--time-col", "when", "--then-by", "n"]
    run = trained_on(odd, tmp_path / "odd", *names)
    bare = tmp_path / "bare.csv"
    bare.write_text("".join(f"{u},{i},{t}\n" for u, i, t in rows))
    nameless = trained_on(bare, tmp_path / "bare", "--columns", "user,item,time")
    lines = tmp_path / "lines.txt"
    by_user = {u: [i for v, i, _ in rows if v == u] for u, _, _ in rows}
    lines.write_text("".join(" ".join([u, *items]) + "\n" for u, items in by_user.items()))
    typed = tmp_path / "typed.inter"
    typed.write_text(
        "user_id:token\titem_id:token\ttimestamp:float\n"
        + "".join("\t".join(row) + "\n" for row in rows)
    )
    for which in (run, nameless):
        for data in (CASES / "own_test.csv", odd if which is run else bare, lines, typed):
            argv = [str(which), "--data", str(data)]
            assert verb.main(argv) == 0, capsys.readouterr().err
    said = refused(capsys, verb.main([str(run), "--data", str(odd), "--item-col", "thing"]))
    assert "no column 'thing' (--item-col)" in said


def test_a_run_whose_log_has_changed_says_so(own: Path, tmp_path: Path, capsys: Capture) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_bytes((CASES / "own_train.csv").read_bytes())
    run = trained_on(mine, tmp_path / "run")
    mine.write_bytes((CASES / "own_more.csv").read_bytes())
    said = refused(capsys, evaluate_verb.main([str(run)]))
    assert "mine.csv has changed since" in said and f"--data {mine}" in said
    found, said = scored(capsys, run, "--data", str(mine))  # the remedy
    assert "mine.csv has changed since" in said and "no popularity floor" in said
    assert found["popularity"] is None and found["known"]["known_users"] is None
    assert recommend.main([str(run)]) == 0
    assert "mine.csv has changed since" in capsys.readouterr().err
    assert "changed since" in refused(capsys, train.main(["--resume", str(run), "--epochs", "3"]))
    argv = [str(run), "--data", str(CASES / "own_test.csv"), "--past", "run"]
    assert "--past file does without" in refused(capsys, evaluate_verb.main(argv))
    mine.unlink()
    found, said = scored(capsys, run, "--data", str(CASES / "own_test.csv"))
    assert found["test"]["samples"] == 25 - sum(
        len(s) == 1 for s in events("own_test.csv").values()
    )
    assert "its log cannot be read" in said


def test_what_cannot_be_scored(own: Path, tmp_path: Path, capsys: Capture) -> None:
    strange = tmp_path / "strange.csv"
    strange.write_text("user_id,item_id,timestamp\n" + "a,x,1\na,y,2\n")
    said = refused(capsys, evaluate_verb.main([str(own), "--data", str(strange)]))
    assert "none of its 2 items ('x', 'y', ...)" in said and "--item-col" in said
    single = tmp_path / "single.csv"
    single.write_text("user_id,item_id,timestamp\nnew1,5,1\nnew2,6,2\n")
    assert "no target has a history" in refused(
        capsys, evaluate_verb.main([str(own), "--data", str(single)])
    )
    for option in (["--targets", "all"], ["--past", "file"], ["--time-col", "t"]):
        assert "needs --data FILE" in refused(capsys, evaluate_verb.main([str(own), *option]))
    load(own).save(tmp_path / "saved")
    assert "give --data FILE" in refused(capsys, recommend.main([str(tmp_path / "saved")]))
    found, said = scored(capsys, tmp_path / "saved", "--data", str(CASES / "own_test.csv"))
    assert found["known"]["past"] == "file" and "only Python has its log" in said


def log_of(rows: list[tuple[int, int, int]], items: int = 9, timed: bool = True) -> InteractionLog:
    """Rows (user, item, time) as a log of the items 1, 2, ..."""
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    users = sorted({row[0] for row in rows})
    counts = [sum(row[0] == user for row in rows) for user in users]
    return InteractionLog(
        items=np.array([row[1] for row in rows], np.int32),
        offsets=np.cumsum([0, *counts]).astype(np.int64),
        times=np.array([row[2] for row in rows]) if timed else None,
        user_ids=np.array(users),
        item_ids=np.arange(items + 1),
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("timed", [True, False])
def test_joined_histories_by_hand(seed: int, timed: bool) -> None:
    """Against lists: rows of both logs once, in the order of the times, targets in their place."""
    rng = np.random.default_rng(seed)
    rows = [tuple(map(int, rng.integers((0, 1, 0), (6, 10, 40)))) for _ in range(60)]
    rows = list(dict.fromkeys(rows))  # (user, item, time), distinct
    first, second = rows[:40], rows[30:]  # ten in both
    past, log = log_of(first, timed=timed), log_of(second, timed=timed)
    before = Past(past, np.maximum(past.lengths - 2, 0))
    found = ask(log, log.item_ids, before=before, past="run", targets="last")
    expected = {}
    for user in sorted({row[0] for row in second}):
        mine = sorted((r for r in second if r[0] == user), key=lambda r: r[2])
        theirs = sorted((r for r in first if r[0] == user), key=lambda r: r[2])
        if timed:
            joined = sorted(dict.fromkeys([*theirs, *mine]), key=lambda r: r[2])
            history = joined[: joined.index(mine[-1])]
        else:
            history = [*theirs, *mine[:-1]]
        if history:
            expected[user] = ([r[1] for r in history], mine[-1][1])
    users, ends = found.samples
    sequences = [found.log.sequence(user) for user in users]
    got = {
        int(found.log.user_ids[user]): (sequence[:end].tolist(), int(sequence[end]))
        for user, sequence, end in zip(users, sequences, ends, strict=True)
    }
    assert got == expected
