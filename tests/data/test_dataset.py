"""Files and frames to data sets: ids, order, filters, the card; and what bad input is told."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mclrec_fast.data import Dataset, InteractionLog, load_dataset, reader
from mclrec_fast.data.build import core_mask
from mclrec_fast.errors import InputError

READERS = ["numpy", *(["native"] if reader.available() else [])]
TWO = "9 4 4 5 6\n"  # a user that every split accepts


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Writes a file and loads it with one of the readers."""

    def load(name: str, content: str | bytes, **options: Any) -> Dataset:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_dataset(data=str(path), reader=request.param, **options)

    return load


def external(log: InteractionLog) -> dict[Any, list[Any]]:
    """The log in the user's own ids."""
    return {
        user: log.item_ids[log.sequence(row)].tolist()
        for row, user in enumerate(log.user_ids.tolist())
    }


# --- formats ------------------------------------------------------------------------------------


def test_text(read: Any) -> None:
    data = read("log.txt", "7 30 10 20 10\r\n\n  3\t20 5 30 1  \n")
    assert external(data.log) == {7: [30, 10, 20, 10], 3: [20, 5, 30, 1]}
    assert data.log.items.tolist() == [1, 2, 3, 2, 3, 4, 1, 5]  # by first appearance
    assert data.log.times is None
    assert data.log.user_ids.dtype == data.log.item_ids.dtype == np.int64


def test_ids_that_are_not_plain_integers_stay_text(read: Any) -> None:
    data = read("log.txt", "u1 007 7 -1 0\n2 +7 7 é 1\n")
    assert external(data.log) == {"u1": ["007", "7", "-1", "0"], "2": ["+7", "7", "é", "1"]}


def test_zero_and_negative_ids_are_labels_like_any_other(read: Any) -> None:
    data = read("log.txt", "0 0 -1 5 6\n-3 5 0 -1 7\n")
    assert external(data.log) == {0: [0, -1, 5, 6], -3: [5, 0, -1, 7]}
    assert data.log.items.min() == 1


def test_inter(read: Any) -> None:
    content = (
        "timestamp:float\tuser_id:token\trating:float\titem_id:token\n"
        "3\ta\t5\tx\n1.5\ta\t4\ty\n2\ta\t1\tz\n4\ta\t2.5\tx\n"
    )
    data = read("log.inter", content)
    assert external(data.log) == {"a": ["y", "z", "x", "x"]}
    assert data.log.times is not None and data.log.times.tolist() == [1.5, 2, 3, 4]
    kept = read("log.inter", content + "9\ta\t3\tw\n", min_rating=2.5)
    assert external(kept.log) == {"a": ["y", "x", "x", "w"]}
    assert kept.card.removed["rating"] == 1


def test_csv_with_quotes_bom_and_windows_lines(read: Any) -> None:
    content = (
        '\ufeffnote,"user id",when,sku\r\n'
        '"a, ""b""",u 1,3,"x,1"\r\n'
        ",u 1, 1 ,x2\r\n"
        'plain," u 1",2,"x""3"\r\n'
        "z,u 1,2,x4\r\n"
        "z,u 1,9,x2"
    )
    data = read("log.csv", content, user_col="user id", item_col="sku", time_col="when")
    assert external(data.log) == {"u 1": ["x2", "x4", "x,1", "x2"], " u 1": ['x"3']}


def test_usual_column_names_are_found(read: Any) -> None:
    content = "movieId;userId;rating;timestamp\n1;5;4.0;9\n2;5;4.5;8\n3;5;4.0;7\n4;5;1;6\n"
    data = read("ratings.csv", content)
    assert external(data.log) == {5: [4, 3, 2, 1]}
    assert data.card.columns == {"user": "userId", "item": "movieId", "time": "timestamp"}
    assert external(read("ratings.csv", content, ignore_times=True).log) == {5: [1, 2, 3, 4]}


def test_format_by_content_or_by_word(read: Any) -> None:
    rows = "".join(f"1\t{n}\t{n}\n" for n in range(4))
    assert read("log.txt", "user_id:token\titem_id:token\ttimestamp:float\n" + rows).card.items == 4
    assert read("log.dat", "user\titem\ttime\n" + rows).card.format == "csv"
    assert read("log.dat", "user\titem\ttime\n" + rows, format="tsv").card.items == 4
    assert read("u.data", "1\t5\t3\t10\n1\t6\t3\t9\n1\t7\t3\t8\n1\t8\t3\t7\n").card.items == 4


def test_sorting_is_stable(read: Any) -> None:
    rows = [(1, 10, 5), (2, 20, 5), (1, 11, 5), (1, 12, 4), (2, 21, 5), (1, 13, 5), (1, 14, 4)]
    content = "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    data = read("log.csv", content)
    assert external(data.log) == {1: [12, 14, 10, 11, 13], 2: [20, 21]}
    assert data.log.item_ids[1:].tolist() == [10, 20, 11, 12, 21, 13, 14]  # in file order


# --- filters ------------------------------------------------------------------------------------


def test_dedupe_keeps_the_earliest(read: Any) -> None:
    content = "user,item,time\n1,7,9\n1,8,2\n1,7,1\n1,9,3\n1,8,2\n1,5,4\n"
    data = read("log.csv", content, dedupe="first")
    assert external(data.log) == {1: [7, 8, 9, 5]}
    assert data.log.times is not None and data.log.times.tolist() == [1, 2, 3, 4]
    assert data.log.item_ids[1:].tolist() == [8, 7, 9, 5]  # first row kept comes first
    assert data.card.removed == {"rating": 0, "dedupe": 2, "core": 0}


def test_core_by_hand(read: Any) -> None:
    # Item 9 goes, then user 3 (too short without it), then item 4 (only user 3 had it twice).
    content = "1 1 2 3 1\n2 1 2 3 2\n3 4 4 1 9\n"
    data = read("log.txt", content, min_user=4, min_item=2)
    assert external(data.log) == {1: [1, 2, 3, 1], 2: [1, 2, 3, 2]}
    assert "min_user 4, min_item 2; rows removed: core 4" in data.card.render()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 5))
def test_core_is_the_largest_set_that_satisfies_both(seed: int, low_u: int, low_i: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 60))
    users = rng.integers(0, 10, rows).astype(np.int32)
    items = rng.integers(0, 10, rows).astype(np.int32)
    kept = set(range(rows))
    while True:  # one row at a time
        for row in sorted(kept):
            of_user = sum(users[r] == users[row] for r in kept)
            of_item = sum(items[r] == items[row] for r in kept)
            if of_user < low_u or of_item < low_i:
                kept.remove(row)
                break
        else:
            break
    assert np.flatnonzero(core_mask(users, items, low_u, low_i)).tolist() == sorted(kept)


# --- the card -----------------------------------------------------------------------------------


def test_card(read: Any) -> None:
    data = read("log.txt", "1 1 2 3 4 5\n2 1 2\n3 4 5 6 7\n", batch_size=2)
    card = data.card.to_dict()
    wanted = {
        "name": "log", "users": 3, "items": 7, "interactions": 11, "density": 11 / 21,
        "length_min": 2, "length_median": 4, "length_max": 5, "train_samples": 3,
        "batches_per_epoch": 2, "valid_samples": 2, "test_samples": 2, "dropped_users": 1,
    }  # fmt: skip
    assert {key: card[key] for key in wanted} == wanted
    text = data.card.render()
    assert "1 users with fewer than 3 interactions" in text
    assert "3 to train on (2 batches of 2)" in text
    assert data.log.sha256 in text and len(data.log.sha256) == 64


# --- bad input ----------------------------------------------------------------------------------

BAD = [
    ("log.txt", "", {}, "the file is empty"),
    ("log.txt", "\n \n", {}, "no interactions"),
    ("log.csv", "user,item\n", {}, "a header and no rows"),
    ("log.txt", f"{TWO}1\n", {}, "log.txt:2: user '1' has no items, expected 'user item item"),
    ("log.txt", f"{TWO}5 1\n9 1\n", {}, "log.txt:3: user '9' again (first on line 1)"),
    ("log.txt", "1,2,3\n", {}, "log.txt:1: no header? The first row looks like data ('1,2,3')"),
    ("log.csv", "0,1\n5,6\n", {}, "a header or data? Say --header yes or --header no"),
    ("log.txt", f"{TWO}5 1\n9 1\n", {}, "read with --format csv, or, where it has no header, with"),
    ("log.txt", b"1 2 \xff 3\n", {}, "log.txt:1: an item id is '\ufffd', which is not valid UTF-8"),
    ("log.txt", b"1 2\0 3\n", {}, "log.txt:1: a NUL byte"),
    ("log.txt", b"1 2 3\r2 3 4\r", {}, "log.txt:1: a carriage return inside the line"),
    ("log.txt", b"\xff\xfe1", {}, "damaged UTF-16 text"),
    ("log.txt", b"\x1f\x8b\x08\0", {}, "damaged gzip after 0 bytes of text"),
    ("log.txt", b"\x1f\x8b\x08\xe0" + bytes(20), {}, "damaged gzip after 0 bytes of text"),
    ("log.txt", b"BZh9" + bytes(20), {}, "damaged bzip2 after 0 bytes of text"),
    ("log.txt", b"\x28\xb5\x2f\xfd" + bytes(20), {}, "damaged zstd after 0 bytes of text"),
    ("log.txt", b"PK\x03\x04", {}, "a zip archive; unpack it first"),
    ("log.txt", f"1 {'x' * 2000} 2\n", {}, "an item id has 2000 bytes"),
    ("log.txt", TWO, {"user_col": "u", "format": "text"}, "--user-col means nothing"),
    ("log.txt", TWO, {"min_rating": 3.0}, "--min-rating needs ratings"),
    ("log.txt", TWO, {"format": "cvs"}, "did you mean 'csv'"),
    ("log.csv", "usr,item\n1,2\n", {}, "log.csv:1: no column for the user ids"),
    ("log.csv", "user,item\n1,2\n", {"item_col": "itm"}, "did you mean 'item'"),
    ("log.csv", "user,item,item\n1,2,3\n", {}, "log.csv:1: column 'item' appears twice"),
    ("log.csv", "u,item,u\n1,2,3\n", {"user_col": "u"}, "column 'u' appears twice; count it"),
    ("log.csv", "user,item\n1,2\n", {"item_col": "user"}, "given two parts"),
    ("log.csv", "user,item\n1,2,3\n", {}, "log.csv:2: 3 fields, expected 2 ('user,item')"),
    ("log.csv", 'user,item\n1,"2\n', {}, "log.csv:2: a quoted field that does not end"),
    ("log.csv", 'user,item\n"1"x,2\n', {}, "log.csv:2: 'x,2' after a closing quote"),
    ("log.csv", 'us"er,"item\n1,2\n', {}, "stray quote in the header"),
    ("log.csv", "user,item\n,2\n", {}, "log.csv:2: column 'user' is empty, expected a user id"),
    ("log.csv", "user,item,time\n1,2,\n", {}, "column 'time' is empty, expected a number"),
    ("log.csv", "user,item,time\n1,2,x\n", {}, "column 'time' is 'x', expected a number"),
    ("log.csv", "user,item,time\n1,2,5\n1,2,2020-01-01\n", {}, "log.csv:3: column 'time' is '2020"),
    ("log.csv", "user,item,time\n1,2,2020-01-01\n1,2,5\n", {}, "'5', expected a time as in"),
    ("log.csv", "user,item,time\n1,2,2020-02-30\n1,2,5\n", {}, "--ignore-times"),
    ("log.csv", "user,item,time\n1,2,2020-01-01\n1,2,9999-12-31\n", {}, "a year from 1678 to 2261"),
    ("log.csv", "user,item,t,s\n1,2,1,x\n", {"time_col": "t", "then_by": "s"}, "column 's' is 'x'"),
    ("log.csv", "user,item,s\n1,2,1\n", {"then_by": "s"}, "--then-by breaks ties of the times"),
    ("log.csv", "user,item,s\n1,2,1\n", {"then_by": "s", "ignore_times": True}, "contradict"),
    ("log.csv", "0,1,2\n5,6,7\n", {"user_col": "1", "item_col": "2"}, "a header or data?"),
    ("log.csv", "7,8,2\n5,6,7\n", {"columns": "user,item"}, "--columns names 2 columns, but"),
    ("log.csv", "user,item,x\n5,6,7\n", {"columns": "user,item,time"}, "--header yes"),
    ("log.csv", "user,item,user\n5,6,7\n", {}, "'user' appears twice, expected distinct"),
    ("log.csv", "user,item,time\n1,2,inf\n", {}, "'inf', expected a finite number"),
    ("log.csv", "user,item,time\n1,2,1e999\n", {}, "'1e999', expected a finite number"),
    ("log.csv", "user,item,rating\n1,2,good\n", {"min_rating": 1.0}, "column 'rating' is 'good'"),
    ("log.csv", "user,item,rating\n1,2,1\n", {"min_rating": 2.0}, "--min-rating 2 leaves no"),
    ("log.csv", "user,item\n1,2\n", {"min_rating": 2.0}, "no column for the ratings"),
    ("log.csv", "user,item,rating\n1,2,1\n", {"rating_col": "rating"}, "does nothing without"),
    ("log.csv", "user,item,t\n1,2,1\n", {"time_col": "t", "ignore_times": True}, "contradict"),
    ("log.inter", "user_id\titem_id:token\n", {}, "'user_id' in the header, expected tab"),
    ("log.inter", "user_id:token\titem_id:float\n1\t2\n", {}, "declared float, expected token"),
    ("log.inter", "user_id:token\tid:token\n1\t2\n", {}, "no column for the item ids"),
    ("log.inter", "user_id:token\titem_id:token\n1\t2 \t3\n", {}, "log.inter:2: 3 fields"),
    ("log.txt", "1 2\n2 3 4\n", {}, "all 2 users have fewer than 3"),
    ("log.txt", TWO, {"min_item": 3}, "--min-user 0 --min-item 3 leaves no interactions"),
    ("log.txt", TWO, {"holdout": "temporal"}, "needs times"),
    ("log.txt", TWO, {"test_fraction": 0.3}, "test_fraction is 0.3, which does nothing without"),
    ("log.txt", TWO, {"synthetic_users": 5}, "does nothing without --dataset synthetic"),
    ("log.txt", TWO, {"dataset": "beauty"}, "not both"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options", "message"), BAD)
def test_bad_input(
    read: Any, name: str, content: str | bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        read(name, content, **options)
    assert message in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "beauty.txt").write_text(TWO)
    with pytest.raises(InputError, match=r"no such file; did you mean .*beauty\.txt"):
        Dataset.from_file(tmp_path / "beuty.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without files"):
        Dataset.from_file(tmp_path / "empty")
    with pytest.raises(InputError, match="not a regular file"):
        Dataset.from_file("/dev/null")


def test_users_too_short_are_counted_not_refused(read: Any) -> None:
    assert read("log.txt", f"1 2\n{TWO}2 3 4\n").card.dropped_users == 2


def test_unknown_options_and_formats(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(TWO)
    with pytest.raises(TypeError, match="unknown option 'colour'"):
        Dataset.from_file(tmp_path / "log.txt", colour="red")
    with pytest.raises(InputError, match="reader must be one of auto, native, numpy, not 'rust'"):
        Dataset.from_file(tmp_path / "log.txt", reader="rust")
    with pytest.raises(InputError, match="does nothing with --dataset"):
        load_dataset(dataset="synthetic", format="csv")


# --- frames -------------------------------------------------------------------------------------

FRAME = {"user": ["b", "a", "b", "b", "b"], "item": [5, 5, 6, 7, 5], "time": [4, 1, 3, 2, 9]}


class Column:
    """A column as table libraries have them."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def to_numpy(self) -> np.ndarray:
        return np.array(self.values)


class Frame:
    """A frame as table libraries have them."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> Column:
        return Column(self._columns[name])


@pytest.mark.parametrize("wrap", [dict, Frame])
def test_frames(wrap: Any) -> None:
    data = Dataset.from_frame(wrap(FRAME), name="mine")
    assert external(data.log) == {"b": [7, 6, 5, 5], "a": [5]}
    assert data.log.item_ids.dtype == np.int64 and data.name == "mine"
    assert len(data.log.sha256) == 64


def test_frames_give_what_the_file_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = {k: rng.integers(0, 30, 500) for k in ("user", "item", "time")}
    rows = zip(*(column.tolist() for column in frame.values()), strict=True)
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    a, b = Dataset.from_frame(frame).log, Dataset.from_file(path).log
    for name in ("items", "offsets", "times", "user_ids", "item_ids"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


def test_dates_and_structured_arrays() -> None:
    days = np.array(["2024-01-03", "2024-01-01", "2024-01-02", "2024-01-04"], dtype="M8[D]")
    frame = {"user": np.zeros(4, dtype=int), "item": np.arange(4), "time": days}
    assert external(Dataset.from_frame(frame).log) == {0: [1, 2, 0, 3]}
    rows = np.array([(0, 1), (0, 2), (0, 3), (0, 4)], dtype=[("user", "i4"), ("item", "u8")])
    assert external(Dataset.from_frame(rows).log) == {0: [1, 2, 3, 4]}


BAD_FRAMES = [
    ({"user": [1.0, 2.5]}, "column 'user', row 1: np.float64(2.5), expected an id"),
    ({"user": [1.0, float("nan")]}, "column 'user', row 1: np.float64(nan), expected an id"),
    (
        {"user": np.array([b"a", b"b"])},
        "row 0: type |S1, expected ids as integers or text; d",
    ),
    ({"user": np.array([b"a", "b"], dtype=object)}, "column 'user', row 0: b'a', expected an id"),
    ({"user": ["a", None]}, "column 'user', row 1: None, expected an id"),
    ({"user": ["a", ""]}, "row 1: '', expected an id"),
    ({"user": np.array([1, "a"], dtype=object)}, "row 1: 'a', expected an integer, as in row 0"),
    ({"user": np.array([1, 2**70], dtype=object)}, "beyond 64 bits"),
    ({"user": np.array([1, 2**63], dtype=np.uint64)}, "row 1: np.uint64(9223372036854775808)"),
    ({"user": ["a", "\ud800"]}, "not valid text"),
    ({"user": [True, False]}, "row 0: type bool"),
    ({"user": [[1, 2], [3, 4]]}, "2 dimensions"),
    ({"time": [1.0, float("nan")]}, "column 'time', row 1: np.float64(nan), expected a finite"),
    ({"time": ["1", "x"]}, "column 'time', row 1: 'x', expected a number"),
    ({"time": ["2020-01-01", "1"]}, "column 'time', row 1: '1', expected a time (ISO 8601)"),
    (
        {"time": ["01/31/2024", "02/01/2024"]},
        "Convert them first (pandas.to_datetime with the format",
    ),
    ({"time": [True, False]}, "column 'time' has type bool, expected numbers or times"),
    ({"time": np.array([1, "x"], dtype=object)}, "row 1: 'x', expected a number"),
    ({"time": np.array(["2024-01-01", "NaT"], dtype="M8[D]")}, "row 1"),
    ({"item": [1, 2, 3]}, "column 'item' has 3 rows and column 'user' has 2"),
    ({"user": [], "item": [], "time": []}, "no rows"),
]


@pytest.mark.parametrize(("change", "message"), BAD_FRAMES)
def test_bad_frames(change: dict[str, Any], message: str) -> None:
    frame = {"user": [1, 2], "item": [1, 2], "time": [1, 2], **change}
    with pytest.raises(InputError) as error:
        Dataset.from_frame(frame)
    assert message in str(error.value)


def test_things_that_are_no_frames() -> None:
    with pytest.raises(InputError, match="a list has no named columns"):
        Dataset.from_frame([1, 2])
    with pytest.raises(InputError, match="did you mean --user-col usr"):
        Dataset.from_frame({"usr": [1], "item": [2]})


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "log.parquet"
    parquet.write_table(pyarrow.table({**FRAME, "note": ["x"] * 5}), path)
    assert external(Dataset.from_file(path).log) == {"b": [7, 6, 5, 5], "a": [5]}
    assert external(Dataset.from_frame(pyarrow.table(FRAME)).log)["a"] == [5]
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="not a readable parquet file"):
        Dataset.from_file(path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "log.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="pip install pyarrow"):
        Dataset.from_file(tmp_path / "log.parquet")


# --- the fallback -------------------------------------------------------------------------------

FALLBACK = """
import sys, warnings
from mclrec_fast.data import Dataset, ReaderFallbackWarning
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        data = Dataset.from_file(sys.argv[1])
assert data.card.reader == "numpy", data.card.reader
texts = [str(w.message) for w in caught if w.category is ReaderFallbackWarning]
assert len(texts) == 1 and "MCLREC_FAST_DISABLE_NATIVE" in texts[0], texts
try:
    Dataset.from_file(sys.argv[1], reader="native")
except Exception as error:
    assert "not available" in str(error)
else:
    raise AssertionError("native was not refused")
assert "torch" not in sys.modules
"""


def test_without_the_compiled_reader_numpy_reads_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(TWO)
    subprocess.run(
        [sys.executable, "-c", FALLBACK, str(tmp_path / "log.txt")],
        check=True,
        env={"MCLREC_FAST_DISABLE_NATIVE": "1", "PYTHONPATH": ":".join(sys.path)},
    )
