"""Tables of pandas, polars and pyarrow: zones, dates, missing values, lazy frames, bad parquet."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast.data import Dataset, LogWarning
from mclrec_fast.errors import InputError

START = datetime.datetime(2020, 9, 13, 21, 18, 11, 599000)
MOMENTS = [START + datetime.timedelta(hours=hours) for hours in (3, 1, 2, 0)]
ORDER = [8, 6, 7, 5]  # of the items 5, 6, 7, 8 at those moments
NANOSECONDS = [1600031891599000000 + hours * 3600 * 10**9 for hours in range(4)]


def items_of(data: Dataset) -> list[Any]:
    return data.log.item_ids[data.log.items].tolist()


def frame(**more: Any) -> dict[str, Any]:
    return {"user": [1, 1, 1, 1], "item": [5, 6, 7, 8], **more}


def utc(hours: int) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(hours=hours))


IN_WORDS = [
    [moment.isoformat() for moment in MOMENTS],
    [moment.isoformat(" ") + "Z" for moment in MOMENTS],
    MOMENTS,
    [moment.replace(tzinfo=datetime.UTC) for moment in MOMENTS],
    [moment.replace(tzinfo=datetime.UTC).astimezone(utc(h)) for h, moment in enumerate(MOMENTS)],
    np.array(MOMENTS, dtype="M8[ns]"),
    np.array(MOMENTS, dtype="M8[us]"),
]


@pytest.mark.parametrize("times", IN_WORDS)
def test_times_in_words(times: Any) -> None:
    data = Dataset.from_frame(frame(event_time=times))
    assert items_of(data) == ORDER
    assert data.log.times is not None and data.log.times.tolist() == NANOSECONDS
    assert data.card.times.startswith("column 'event_time', 2020-09-13 21:18:11 to 2020-09-14 00")


def test_files_and_frames_have_the_same_times(tmp_path: Path) -> None:
    rows = zip(*frame(time=IN_WORDS[0]).values(), strict=True)
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    data = Dataset.from_file(path)
    assert items_of(data) == ORDER
    assert data.log.times is not None and data.log.times.tolist() == NANOSECONDS


@pytest.mark.parametrize(
    "times",
    [
        [moment.timestamp() for moment in MOMENTS],
        ["4", "2", "3", "1"],
        [Decimal(4), Decimal(2), Decimal("2.5"), Decimal(1)],
        [datetime.date(2020, 1, 4), datetime.date(2020, 1, 2), datetime.date(2020, 1, 3),
         datetime.date(2020, 1, 1)],
        np.array(["9999-01-04", "9999-01-02", "9999-01-03", "9999-01-01"], dtype="M8[D]"),
    ],
)  # fmt: skip
def test_other_times(times: Any) -> None:
    assert items_of(Dataset.from_frame(frame(time=times))) == ORDER


def test_dates_are_found_by_type_and_doubt_is_said() -> None:
    assert items_of(Dataset.from_frame(frame(wann=MOMENTS))) == ORDER
    with pytest.warns(LogWarning, match="'a', 'b' may hold times"):
        data = Dataset.from_frame(frame(a=MOMENTS, b=MOMENTS))
    assert items_of(data) == [5, 6, 7, 8] and data.card.times == "none, the order of the file"
    assert items_of(Dataset.from_frame(frame(a=MOMENTS, b=MOMENTS), time_col="b")) == ORDER
    ties = frame(time=[1, 1, 1, 0], step=[3, 1, 2, 9])
    assert items_of(Dataset.from_frame(ties, then_by="step")) == ORDER


def test_ids_of_floats_are_the_integers_they_hold() -> None:
    data = Dataset.from_frame({"user": [1.0] * 4, "item": np.array([5, 6, 7, 146], dtype="f4")})
    assert items_of(data) == [5, 6, 7, 146] and data.log.item_ids.dtype == np.int64
    assert "column 'item' holds floats" in "\n".join(data.card.notes)


def test_ids_that_look_missing_are_noted() -> None:
    data = Dataset.from_frame(
        {"user": ["a"] * 3 + ["nan"] * 4, "item": ["x", "y", "NULL"] * 2 + ["z"]}
    )
    notes = "\n".join(data.card.notes)
    assert "user id 'nan' (column 'user') in row 4 looks like a missing value" in notes
    assert "item id 'NULL' (column 'item') in row 3" in notes


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    for zone in (None, "UTC", "Europe/Berlin"):
        times = pandas.Series(MOMENTS).dt.tz_localize("UTC").dt.tz_convert(zone)
        data = Dataset.from_frame(pandas.DataFrame(frame(viewed=times)))
        assert items_of(data) == ORDER
        assert data.log.times is not None and data.log.times.tolist() == NANOSECONDS
    indexed = pandas.DataFrame(frame(time=MOMENTS), index=[9, 9, 7, 7])
    assert items_of(Dataset.from_frame(indexed)) == ORDER
    texts = pandas.DataFrame(frame(time=MOMENTS)).astype({"user": "string", "item": "category"})
    assert items_of(Dataset.from_frame(texts)) == ORDER
    nullable = pandas.DataFrame(frame(time=MOMENTS)).astype({"item": "Int64"})
    assert items_of(Dataset.from_frame(nullable)) == ORDER
    nullable.loc[[1, 3], "item"] = pandas.NA
    with pytest.raises(InputError, match="column 'item', row 1, 3: no value"):
        Dataset.from_frame(nullable)
    assert Dataset.from_frame(nullable.dropna(), holdout="none").card.interactions == 2
    numbered = pandas.DataFrame([[1, 5], [1, 6], [1, 7], [1, 8]])
    assert items_of(Dataset.from_frame(numbered, user_col="0", item_col="1")) == [5, 6, 7, 8]


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame(frame(viewed=MOMENTS, extra=[1.5] * 4))
    zoned = table.with_columns(polars.col("viewed").dt.replace_time_zone("Asia/Tokyo"))
    for each in (table, zoned, table.lazy(), zoned.lazy(), table.cast({"viewed": polars.Date})):
        data = Dataset.from_frame(each)
        assert data.card.columns["time"] == "viewed"
        assert sorted(items_of(data)) == sorted(ORDER)
    assert items_of(Dataset.from_frame(table.lazy())) == ORDER
    missing = table.with_columns(polars.Series("user", [1, None, 1, None]))
    for each in (missing, missing.lazy()):
        with pytest.raises(InputError, match="column 'user', row 1, 3: no value"):
            Dataset.from_frame(each)


def test_pyarrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    zoned = pyarrow.array(MOMENTS, pyarrow.timestamp("us", "America/New_York"))
    words = pyarrow.array([moment.isoformat() for moment in MOMENTS]).dictionary_encode()
    for times in (
        zoned,
        words,
        pyarrow.array(MOMENTS),
        pyarrow.array([NANOSECONDS[i] for i in (3, 1, 2, 0)]),
    ):
        table = pyarrow.table(frame(viewed_at=times))
        parquet.write_table(table, tmp_path / "log.parquet")
        for data in (Dataset.from_frame(table), Dataset.from_file(tmp_path / "log.parquet")):
            assert data.card.columns["time"] == "viewed_at"
            assert items_of(data) == ORDER
    missing = pyarrow.table({"user": [1, None, 1], "item": [1, 2, 3]})
    parquet.write_table(missing, tmp_path / "log.parquet")
    with pytest.raises(InputError, match="column 'user', row 1: no value"):
        Dataset.from_frame(missing)
    with pytest.raises(InputError, match=r"log\.parquet: column 'user', row 1: no value"):
        Dataset.from_file(tmp_path / "log.parquet")
    parquet.write_table(pyarrow.table(frame(when=NANOSECONDS)), tmp_path / "log.parquet")
    with pytest.warns(LogWarning, match="'when' may hold times"):
        Dataset.from_file(tmp_path / "log.parquet")


def test_flipped_bits_of_parquet_end_in_one_line(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "log.parquet"
    table = pyarrow.table(frame(time=MOMENTS, name=["a", "b", "c", "d"]))
    parquet.write_table(table, path, compression="snappy")
    whole = bytearray(path.read_bytes())
    refused = 0
    for bit in range(0, 8 * len(whole), 5):
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        try:
            Dataset.from_file(path)
        except InputError as error:
            refused += 1
            assert str(path) in str(error)
        whole[bit // 8] ^= 1 << bit % 8
    assert refused > 100
