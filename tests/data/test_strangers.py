"""Logs whose order or reading is in doubt: what is said about each, and advice that is followed.

The content is that of test_kinds.py; what is read as it stands is tried there.
"""

import datetime as dt
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast.config import DataConfig
from mclrec_fast.data import Dataset, LogWarning, load_dataset
from mclrec_fast.data.prepare import prepare
from mclrec_fast.data.times import is_spelled_date
from mclrec_fast.errors import InputError
from tests.data.test_kinds import NAMES, ROWS, TRUTH, content, frame_of, table

SECONDS = [row[2] for row in ROWS]
TIMED = table().encode()


def dates(form: str) -> list[str]:
    return [dt.datetime.fromtimestamp(time, dt.UTC).strftime(form) for time in SECONDS]


def with_times(name: str, times: list[Any]) -> str:
    """The table with another column of times, under another name."""
    spelled = dict(zip(SECONDS, times, strict=True))
    names = (*NAMES[:2], name, NAMES[3])
    return table(names, row=lambda u, i, t, r: (u, i, spelled[t], r))


def said(load: Callable[[], Dataset]) -> tuple[Dataset, str]:
    """A data set, and what was warned of; the card says it, too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load()
    texts = [str(w.message) for w in caught if issubclass(w.category, LogWarning)]
    for text in texts:
        assert text.partition(": ")[2] in data.card.render()
    return data, "\n".join(texts)


SPELLED = [
    "%a %b %d %H:%M:%S +0000 %Y",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%d.%m.%Y",
    "%m/%d/%Y %H:%M",
    "%m/%d/%y",
    "%d-%b-%y",
    "%B %d, %Y",
    "%Y-%m-%d %I:%M:%S %p",
]


@pytest.mark.parametrize("form", SPELLED)
def test_dates_in_forms_that_are_not_read_are_named(tmp_path: Path, form: str) -> None:
    times = [text.replace(",", "") for text in dates(form)]
    file = tmp_path / "log.csv"
    file.write_text(with_times("bought", times))
    data, text = said(lambda: load_dataset(data=str(file)))
    assert "times        none, the order of the file" in data.card.render()
    assert "'bought' may hold dates, in a form that is not read: write them as 2020-09-13" in text
    frame = frame_of()
    frame["bought"] = times
    del frame["timestamp"]
    assert "'bought' may hold dates" in said(lambda: Dataset.from_frame(frame))[1]
    file.write_text(with_times("bought", dates("%Y-%m-%d %H:%M:%S")))
    assert content(load_dataset(data=str(file))) == TRUTH


def test_what_is_no_date() -> None:
    for text in ("1.2.3", "10.0.0.1", "Toy Story (1995)", "market 12", "5 market 20", "May", "x"):
        assert not is_spelled_date(text)


def test_a_time_of_day_is_no_order_of_days(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(with_times("time", dates("%H:%M:%S")))
    _, text = said(lambda: load_dataset(data=str(file)))
    assert "column 'time' holds times of day without a date" in text
    frame = frame_of(timestamp=[dt.datetime.fromtimestamp(t, dt.UTC).time() for t in SECONDS])
    assert "holds times of day without a date" in said(lambda: Dataset.from_frame(frame))[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset(data=str(file), ignore_times=True)
    file.write_text(with_times("time", dates("%Y-%m-%d %H:%M:%S")))
    assert content(load_dataset(data=str(file))) == TRUTH


@pytest.mark.parametrize("name", ["day", "step", "order_number", "sequence"])
def test_numbers_whose_name_speaks_of_an_order_are_named(tmp_path: Path, name: str) -> None:
    rank = {time: place for place, time in enumerate(sorted(SECONDS))}
    file = tmp_path / "log.csv"
    file.write_text(with_times(name, [rank[time] for time in SECONDS]))
    assert (
        f"'{name}' may hold times: --time-col NAME" in said(lambda: load_dataset(data=str(file)))[1]
    )
    assert content(load_dataset(data=str(file), time_col=name)) == TRUTH
    file.write_text(with_times("order_id", [rank[time] for time in SECONDS]))
    assert not said(lambda: load_dataset(data=str(file)))[1]


def test_times_in_a_column_without_a_name_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(with_times("", SECONDS))
    assert "'3' may hold times: --time-col" in said(lambda: load_dataset(data=str(file)))[1]
    assert content(load_dataset(data=str(file), time_col="3")) == TRUTH


def test_a_lazy_frame_is_looked_at_for_times() -> None:
    polars = pytest.importorskip("polars")
    frame = frame_of()
    frame["when"] = dates("%d.%m.%Y %H:%M:%S")
    del frame["timestamp"]
    assert "'when' may hold dates" in said(lambda: Dataset.from_frame(polars.LazyFrame(frame)))[1]
    frame["when"] = dates("%Y-%m-%d %H:%M:%S")
    assert content(Dataset.from_frame(polars.LazyFrame(frame))) == TRUTH


@pytest.mark.parametrize("separator", ["^", "~", "!"])
def test_a_separator_that_is_not_known(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "log.csv"
    file.write_text(table(separator=separator))
    with pytest.raises(InputError, match="a line sep=") as refused:
        load_dataset(data=str(file))
    line = str(refused.value).partition("a line ")[2].partition(" ")[0]
    file.write_text(line + "\n" + table(separator=separator))
    assert content(load_dataset(data=str(file))) == TRUTH


def test_a_separator_that_cannot_be_seen(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "log.csv"
    file.write_text(table(separator="\x01"))
    with pytest.raises(InputError, match=r"pandas\.read_csv\(FILE, sep='\\x01'\)"):
        load_dataset(data=str(file))
    assert content(Dataset.from_frame(pandas.read_csv(file, sep="\x01"))) == TRUTH


def test_a_comment_in_front_of_the_table(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("# exported on 13 September\n" + table())
    with pytest.raises(InputError, match=r"a comment in front of the table .*tail -n \+2 FILE"):
        load_dataset(data=str(file))
    file.write_text("".join(file.read_text().splitlines(True)[1:]))
    assert content(load_dataset(data=str(file))) == TRUTH


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
@pytest.mark.parametrize("header", [True, False])
def test_another_encoding(tmp_path: Path, encoding: str, header: bool) -> None:
    if shutil.which("iconv") is None:
        pytest.skip("no iconv")
    file, made = tmp_path / "log.csv", tmp_path / "made.csv"
    names = (*NAMES[:3], "étoiles" if header else "stars")
    text = table(names, row=lambda u, i, t, r: (f"é{u}", i, t, r))
    file.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match="iconv -f") as refused:
        load_dataset(data=str(file))
    words = str(refused.value).partition("iconv ")[2].split()[:5]
    argv = ["iconv", *(str(file) if word.startswith("FILE") else word for word in words)]
    made.write_bytes(subprocess.run(argv, check=True, capture_output=True).stdout)
    data = load_dataset(data=str(made))
    assert content(data) == {f"é{user}": items for user, items in TRUTH.items()}


@pytest.mark.parametrize(
    ("cell", "options"),
    [('"two\nlines, one ""word"""', {}), ('"a \\"word\\", and"', {"escapechar": "\\"})],
)
def test_quotes_that_pandas_reads(tmp_path: Path, cell: str, options: dict[str, str]) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "log.csv"
    names = (*NAMES[:2], "title", *NAMES[2:])
    file.write_text(table(names, row=lambda u, i, t, r: (u, i, cell, t, r)))
    with pytest.raises(InputError, match=r"(?s)A row is one line here.*escapechar='\\\\'.*frame"):
        load_dataset(data=str(file))
    assert content(Dataset.from_frame(pandas.read_csv(file, **options))) == TRUTH


def test_rows_without_a_rating(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(table(row=lambda u, i, t, r: (u, i, t, "" if r > 4.5 else r)))
    with pytest.raises(InputError, match=r"(?s)'rating' is empty.*or leave --min-rating out"):
        load_dataset(data=str(file), min_rating=1)
    assert content(load_dataset(data=str(file))) == TRUTH


def parts(folder: Path, *files: tuple[str, str]) -> str:
    for name, text in files:
        (folder / name).write_text(text)
    return str(folder)


def split_in_two(text: str) -> tuple[str, str]:
    lines = text.splitlines(True)
    return "".join(lines[:60]), lines[0] + "".join(lines[60:])


def test_parts_whose_times_are_written_differently(tmp_path: Path) -> None:
    one = split_in_two(table())[0]
    two = split_in_two(with_times("timestamp", dates("%Y-%m-%dT%H:%M:%SZ")))
    folder = parts(tmp_path, ("a.csv", one), ("b.csv", two[1]))
    with pytest.raises(InputError, match=r"write the times of all parts alike.*--ignore-times"):
        load_dataset(data=folder)
    assert load_dataset(data=folder, ignore_times=True).log.n_users == len(TRUTH)
    parts(tmp_path, ("a.csv", two[0]))
    assert content(load_dataset(data=folder)) == TRUTH


def test_parts_with_and_without_times(tmp_path: Path) -> None:
    one, _ = split_in_two(table())
    lines = split_in_two(table(NAMES[:2], row=lambda u, i, t, r: (u, i)))[1]
    folder = parts(tmp_path, ("a.csv", one), ("b.csv", lines))
    with pytest.raises(InputError, match="or keep the order of the files with --ignore-times"):
        load_dataset(data=folder)
    assert load_dataset(data=folder, ignore_times=True).log.n_users == len(TRUTH)


def test_parts_without_rows_are_read_past(tmp_path: Path) -> None:
    """Of what their columns hold nothing is known: neither kind nor order is asked of them."""
    one, two = split_in_two(with_times("played_at", SECONDS))
    header, folder = one.splitlines(True)[0], tmp_path / "log"
    folder.mkdir()
    parts(folder, ("a.csv", header), ("b.csv", one), ("c.csv", two), ("d.csv", header))
    assert content(load_dataset(data=str(folder))) == TRUTH
    prepare(DataConfig(data=str(folder)), tmp_path / "made")
    assert content(load_dataset(data=str(tmp_path / "made"))) == TRUTH
    for name in ("b.csv", "c.csv"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="no rows in 2 files"):
        load_dataset(data=str(folder))


def test_parquet_parts_without_rows_are_read_past(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    whole, folder = arrow.table(frame_of()), tmp_path / "log"
    folder.mkdir()
    for name, part in {"a": whole[:0], "b": whole[:60], "c": whole[60:], "d": whole[:0]}.items():
        parquet.write_table(part, folder / f"{name}.parquet")
    assert content(load_dataset(data=str(folder))) == TRUTH
    prepare(DataConfig(data=str(folder)), tmp_path / "made")
    assert content(load_dataset(data=str(tmp_path / "made"))) == TRUTH
    with pytest.raises(InputError, match="no rows, expected interactions"):
        load_dataset(data=str(folder / "a.parquet"))


def test_parquet_under_another_name(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / "log.csv"
    parquet.write_table(arrow.table(frame_of()), file)
    with pytest.raises(InputError, match="the file is parquet; --format parquet reads it"):
        load_dataset(data=str(file))
    assert content(load_dataset(data=str(file), format="parquet")) == TRUTH


@pytest.mark.parametrize(("type", "most"), [("f2", 2**11), ("f4", 2**24), ("f8", 2**53)])
def test_floats_are_ids_as_far_as_each_integer_has_its_own(type: str, most: int) -> None:
    ids = np.array([row[0] for row in ROWS], type)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert content(Dataset.from_frame(frame_of(user_id=ids))) == TRUTH
    ids[3] = most * 2
    with pytest.raises(InputError, match=rf"row 3: .*an integer up to {most} as float"):
        Dataset.from_frame(frame_of(user_id=ids))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ignore_times": "no"}, "ignore_times must be true or false, not 'no'"),
    ({"header": True}, "header must be text, not True"),
    ({"min_rating": "3"}, "min_rating must be a number or none, not '3'"),
    ({"min_rating": True}, "min_rating must be a number"),
    ({"min_user": 2.5}, "min_user must be a whole number"),
    ({"time_col": 3}, "time_col must be text, not 3"),
    ({"columns": ["user", "item"]}, "columns must be text"),
    ({"user_col": b"user"}, "user_col must be text"),
    ({"more": "log.csv"}, "more must be texts"),
    ({"dedupe": "all"}, "dedupe must be one of none, first, exact"),
    ({"valid_fraction": -1.0}, "valid_fraction must be above 0"),
    ({"threads": "2"}, "threads must be a whole number from 1, not '2'"),
    ({"threads": 0}, "threads must be a whole number from 1, not 0"),
    ({"batch_size": 0}, "batch_size must be a whole number from 1"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_options_of_wrong_types(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(TIMED)
    with pytest.raises(InputError, match=words):
        Dataset.from_file(file, **options)


def test_options_of_numpy_are_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(TIMED)
    data = Dataset.from_file(
        file,
        min_user=np.int64(2),
        min_rating=np.float32(0.5),
        ignore_times=np.bool_(False),
        more=[file],
        threads=np.int64(1),
    )
    assert data.log.n_users == len(TRUTH) and data.config.min_user == 2
