"""Small logs of the kinds that people have: each is read as it is meant, or is told what is wrong.

Most of the files in cases/ hold the same 861 events of 80 users and 50 items, written in different
ways; they must give the same sequences.
"""

import csv
import warnings
from pathlib import Path
from typing import Any

import pytest

from mclrec_fast.data import Dataset, LogWarning, reader
from mclrec_fast.errors import InputError

CASES = Path(__file__).parent / "cases"
READERS = ["numpy", *(["native"] if reader.available() else [])]


@pytest.fixture(params=READERS, autouse=True)
def which(request: pytest.FixtureRequest) -> str:
    """Every case is read by both readers."""
    return str(request.param)


def load(name: str, which: str, **options: Any) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error", LogWarning)
        return Dataset.from_file(CASES / name, reader=which, **options)


def sequences(data: Dataset, user: Any = int, item: Any = int) -> dict[int, list[int]]:
    """The log by user, ids brought to those of own_more.csv."""
    log = data.log
    return {
        user(name): [item(value) for value in log.item_ids[log.sequence(row)].tolist()]
        for row, name in enumerate(log.user_ids.tolist())
    }


def expected() -> dict[int, list[int]]:
    """The events in time order, read with nothing of the package."""
    with (CASES / "event_time.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["event_time"]))
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(int(row["user_id"]) - 5000, []).append(int(row["product_id"]) - 1000000)
    return found


def notes(data: Dataset) -> str:
    return "\n".join(data.card.notes)


def test_event_time(which: str) -> None:
    data = load("event_time.csv", which)
    assert sequences(data, lambda u: u - 5000, lambda i: i - 1000000) == expected()
    assert data.card.columns["time"] == "event_time"
    assert "2020-09-13 21:18:11 to 2020-10-12 09:39:36 if seconds" in data.card.render()


def test_t_dat(which: str) -> None:
    data = load("t_dat.csv", which)
    assert data.card.columns["time"] == "t_dat"
    assert data.card.times == "column 't_dat', 2020-09-13 to 2020-10-12 (UTC)"
    found = sequences(data, lambda u: int(u, 16), lambda i: int(i) - 100000)
    with (CASES / "t_dat.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["t_dat"])
    by_day: dict[int, list[int]] = {}
    for row in rows:
        who = int(row["customer_id"], 16)
        by_day.setdefault(who, []).append(int(row["article_id"]) - 100000)
    assert found == by_day
    assert data.card.tied_rows == 660 and "ties: 660 of 861 (76.7%)" in notes(data)


def test_iso_times(which: str) -> None:
    data = load("iso_times.csv", which)
    with (CASES / "iso_times.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["time"])
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(int(row["user_id"]), []).append(int(row["video_id"]))
    assert sequences(data) == found
    assert data.log.times is not None and int(data.log.times.min()) == 1600031891599000000


def test_exact_duplicates(which: str) -> None:
    data = load("exact_duplicates.csv", which, item_col="video_id")
    assert (data.card.interactions, data.card.duplicate_rows) == (1719, 858)
    assert "duplicates: 858 of 1719 (49.9%)" in notes(data)
    assert "--dedupe exact" in notes(data)
    once = load("exact_duplicates.csv", which, item_col="video_id", dedupe="exact")
    assert (once.card.interactions, once.card.duplicate_rows) == (861, 0)
    assert once.card.removed["dedupe"] == 858
    assert sequences(once) == expected()
    first = load("exact_duplicates.csv", which, item_col="video_id", dedupe="first")
    assert first.card.interactions < 861 and first.card.repeated_interactions == 0


def test_ids_as_floats(which: str) -> None:
    data = load("ids_as_floats.csv", which)
    assert sequences(data, lambda u: int(float(u)), lambda i: int(float(i)) - 100) == expected()
    assert "user ids (column 'user_id') are integers written as decimals ('10.0' in row 1)" in (
        notes(data)
    )
    assert "('146.0' in row 1)" in notes(data)


def test_ids_nan_none(which: str) -> None:
    data = load("ids_nan_none.csv", which)
    assert "user id 'nan' (column 'user_id') in row 6 looks like a missing value" in notes(data)
    assert "(9 rows)" in notes(data)
    assert "item id 'None' (column 'item_id') in row 4 looks like a missing value" in notes(data)


@pytest.mark.parametrize("name", ["ties_shuffled.csv", "ties_sorted_by_item.csv"])
def test_ties(which: str, name: str) -> None:
    data = load(name, which)
    assert data.card.tied_rows == 4800 and data.card.duplicate_rows == 0
    assert "ties: 4800 of 4800 (100.0%)" in notes(data)


def test_pairs_blank_separated(which: str) -> None:
    data = load("pairs_blank_separated.txt", which)
    assert sequences(data, lambda u: u - 1, lambda i: i - 1) == expected()
    assert "times        none, the order of the file" in data.card.render()
    assert "no header: the two columns are read as user and item" in notes(data)
    named = load("pairs_blank_separated.txt", which, columns="user,item")
    assert sequences(named) == sequences(data)


def test_double_colon(which: str) -> None:
    data = load("double_colon.dat", which)
    assert sequences(data, lambda u: u - 1, lambda i: i - 1) == expected()
    assert "MovieLens' order" in notes(data)
    rated = load("double_colon.dat", which, min_rating=3)
    assert 0 < rated.card.removed["rating"] < 861
    named = load("double_colon.dat", which, columns="user,item,rating,time")
    assert sequences(named) == sequences(data)


def test_clicks_no_header(which: str) -> None:
    with pytest.raises(InputError) as error:
        load("clicks_no_header.csv", which)
    text = str(error.value)
    assert "clicks_no_header.csv:1: no header? The first row looks like data ('0,2020-" in text
    assert "--columns user,time,item,other4" in text
    assert "--user-col 1 --item-col 3" in text
    for options in (
        {"columns": "user,time,item,other4"},
        {"user_col": "1", "item_col": "3"},
        {"user_col": "1", "item_col": "3", "time_col": "2", "header": "no"},
    ):
        data = load("clicks_no_header.csv", which, **options)
        assert data.card.interactions == 861
        assert sequences(data, int, lambda i: i - 214500000) == expected()


def test_repeat_purchases(which: str) -> None:
    card = load("repeat_purchases.csv", which).card
    assert (card.repeated_valid_targets, card.repeated_test_targets) == (80, 80)
    text = "\n".join(card.notes)
    assert "80 of 80 (100.0%) test targets are items that the user had before" in text
    assert "--include-seen" in text
    assert "--dedupe" not in text  # would leave two items for each user


@pytest.mark.parametrize("name", ["own_train.csv", "own_test.csv", "own_more.csv"])
def test_plain_logs_have_nothing_to_be_said_about_order(which: str, name: str) -> None:
    data = load(name, which)
    assert data.card.tied_rows == data.card.duplicate_rows == 0
    assert all(note.startswith("repeats:") for note in data.card.notes)


def test_ratings(which: str) -> None:
    assert load("ratings_train.csv", which, min_rating=3).card.removed["rating"] > 0
    assert load("ratings_today.csv", which).card.interactions == 20
    with pytest.raises(InputError, match=r"ratings_today\.csv:1: no column for the ratings"):
        load("ratings_today.csv", which, min_rating=3)
