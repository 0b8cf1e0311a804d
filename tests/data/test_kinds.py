"""Logs as people have them, the same content in many forms: read alike, or refused by name."""

import bz2
import csv
import datetime as dt
import decimal
import gzip
import io
import json
import lzma
import random
import sqlite3
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast.data import Dataset, load_dataset
from mclrec_fast.errors import InputError

Row = tuple[int, int, int, float]
NAMES = ("user_id", "item_id", "timestamp", "rating")


def make_rows() -> list[Row]:
    """Users 100-119, a different second and item at each row, in no order."""
    rng = random.Random(7)
    rows = []
    for user in range(100, 120):
        time = 1_600_000_000 + rng.randrange(10**6)
        for item in rng.sample(range(500, 530), 7):
            time += rng.randrange(60, 90_000)
            rows.append((user, item, time, rng.randrange(1, 11) / 2))
    rng.shuffle(rows)
    return rows


ROWS = make_rows()


def sequences(rows: list[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user, item, _, _ in sorted(rows, key=lambda row: row[2]):
        found.setdefault(str(user), []).append(str(item))
    return found


TRUTH = sequences(ROWS)


def content(data: Dataset) -> dict[str, list[str]]:
    """The histories by user, in external ids."""
    log = data.log
    return {
        str(user): [str(item) for item in log.item_ids[log.items[start:stop]]]
        for user, start, stop in zip(log.user_ids, log.offsets[:-1], log.offsets[1:], strict=True)
    }


def table(
    names: tuple[str, ...] = NAMES,
    separator: str = ",",
    end: str = "\n",
    row: Callable[..., tuple[Any, ...]] = lambda *row: row,
) -> str:
    lines = [separator.join(names), *(separator.join(map(str, row(*r))) for r in ROWS)]
    return end.join(lines) + end


def timed(spell: Callable[[dt.datetime], str]) -> str:
    """The table with its times in words."""

    def row(user: int, item: int, time: int, rating: float) -> tuple[Any, ...]:
        return user, item, spell(dt.datetime.fromtimestamp(time, dt.UTC)), rating

    return table(row=row)


def far(time: dt.datetime) -> str:
    """In some zone or other."""
    return time.astimezone(dt.timezone(dt.timedelta(hours=time.second % 5 - 2))).isoformat()


def tarred(text: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("log.csv")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return file.getvalue()


def zipped(text: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("log.csv", text)
    return file.getvalue()


PLAIN = table().encode()

GOOD: dict[str, bytes | str] = {
    "camel.csv": table(("userId", "movieId", "timestamp", "rating")),
    "fashion.csv": table(("customer_id", "article_id", "t_dat", "price")),
    "shop.csv": table(("visitorid", "itemid", "timestamp", "event")),
    "clicks.csv": table(("SessionId", "ItemId", "Time", "Rating")),
    "reviews.csv": table(("User ID", "Business-ID", "Review Date", "Stars")),
    "music.csv": table(("user.id", "artist.id", "played_at", "n")),
    "swapped.csv": table(NAMES[::-1], row=lambda *row: row[::-1]),
    "tabs.tsv": table(separator="\t"),
    "bars": table(separator="|"),
    "decimal_comma.csv": table(
        separator=";", row=lambda u, i, t, r: (u, i, t, str(r).replace(".", ","))
    ),
    "windows.csv": "\ufeff" + table(separator=";", end="\r\n"),
    "utf16.csv": table().encode("utf-16"),
    "blank_lines.csv": table(end="\n\n"),
    "trailing.csv": table((*NAMES, ""), row=lambda *row: (*row, "")),
    "quoted.csv": table(
        tuple(f'"{name}"' for name in NAMES), row=lambda *row: tuple(f'"{cell}"' for cell in row)
    ),
    "numbered.csv": table(("", *NAMES), row=lambda *row: (row[1], *row)),
    "pandas.csv": table(("Unnamed: 0", *NAMES), row=lambda *row: (row[1], *row)),
    "separator.csv": "sep=;\n" + table(separator=";"),
    "padded.csv": table(row=lambda u, i, t, r: (f" {u}", f"{i} ", f" {t} ", r)),
    "milliseconds.csv": table(row=lambda u, i, t, r: (u, i, t * 1000, r)),
    "floats.csv": table(row=lambda u, i, t, r: (u, i, f"{t}.25", r)),
    "exponents.csv": table(row=lambda u, i, t, r: (u, i, f"{t:.9e}", r)),
    "iso.csv": timed(lambda t: t.isoformat()),
    "zulu.csv": timed(lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ")),
    "zones.csv": timed(far),
    "utc.csv": timed(lambda t: t.strftime("%Y-%m-%d %H:%M:%S UTC")),
    "fractions.csv": timed(lambda t: t.strftime("%Y/%m/%d %H:%M:%S.%f")),
    "in_one.csv": timed(lambda t: t.strftime("%Y%m%d%H%M%S")),
    "log.csv.gz": gzip.compress(PLAIN[:900]) + gzip.compress(PLAIN[900:]),
    "log.csv.bz2": bz2.compress(PLAIN[:900]) + bz2.compress(PLAIN[900:]),
    "log.csv.xz": lzma.compress(PLAIN[:900]) + lzma.compress(PLAIN[900:]) + b"\0\0\0\0",
    "log.inter": "user_id:token\titem_id:token\ttimestamp:float\trating:float\n"
    + table(separator="\t").partition("\n")[2],
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("reader", ["native", "numpy"])
def test_the_same_log_in_many_forms(tmp_path: Path, name: str, reader: str) -> None:
    made = GOOD[name]
    file = tmp_path / name
    file.write_bytes(made if isinstance(made, bytes) else made.encode())
    reader = "auto" if reader == "native" else reader
    assert content(load_dataset(data=str(file), reader=reader)) == TRUTH


BAD: dict[str, tuple[bytes | str, str]] = {
    "records.json": (
        json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS]),
        "JSON, expected .*pandas.read_json",
    ),
    "indented.json": (
        json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS], indent=1),
        "JSON, expected",
    ),
    "lines.jsonl": (
        "\n".join(json.dumps(dict(zip(NAMES, row, strict=True))) for row in ROWS),
        "JSON, expected",
    ),
    "page.csv": ("<!DOCTYPE html>\n<html><body>404</body></html>", "a page of a web site"),
    "macintosh.csv": (table(end="\r"), "a carriage return inside the line, and no other"),
    "blank.csv": ("\n\n\r\n  \n", "nothing but blank lines"),
    "log.zip": (zipped(PLAIN), "a zip archive; unpack it first"),
    "log.xlsx": (zipped(PLAIN), "an Excel workbook; save it as CSV"),
    "log.npz": (zipped(PLAIN), "Dataset.from_frame.np.load"),
    "log.tar": (tarred(PLAIN), "a tar archive; unpack it first"),
    "log.tar.gz": (gzip.compress(tarred(PLAIN)), "a tar archive; unpack it first"),
    "log.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive"),
    "log.feather": (b"ARROW1\0\0" + bytes(50), "an Arrow or Feather file"),
    "log.orc": (b"ORC" + bytes(50), "an ORC file"),
    "log.h5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    "log.npy": (b"\x93NUMPY\1\0" + bytes(50), "an array of numpy"),
    "log.pkl": (b"\x80\x05\x95" + bytes(50), "a pickle"),
    "cut.csv.xz": (lzma.compress(PLAIN)[:-30], "damaged xz .*it ends in the middle"),
    "wrong.csv.xz": (b"\xfd7zXZ\0" + bytes(90), "damaged xz"),
    "one_more.csv": (table(row=lambda *row: (*row, "x")), "add a name to that line"),
    "comma.csv": (
        table(separator=";", row=lambda u, i, t, r: (u, i, t, str(r).replace(".", ","))),
        "a decimal point .4.5, not 4,5",
    ),
    "month_first.csv": (timed(lambda t: t.strftime("%m/%d/%Y %H:%M")), "ISO 8601 .*Convert them"),
    "day_first.csv": (timed(lambda t: t.strftime("%d.%m.%Y %H:%M")), "ISO 8601 .*Convert them"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_log(tmp_path: Path, name: str) -> None:
    made, words = BAD[name]
    file = tmp_path / name
    file.write_bytes(made if isinstance(made, bytes) else made.encode())
    with pytest.raises(InputError, match=f"(?s)^{file}.*{words}"):
        load_dataset(data=str(file), min_rating=0.5 if name == "comma.csv" else None)


def test_a_database(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    with sqlite3.connect(file) as database:
        database.execute("create table log (user, item)")
    database.close()
    with pytest.raises(InputError, match="an SQLite database; export the table as CSV"):
        load_dataset(data=str(file))


def test_ids_in_braces_are_no_json(tmp_path: Path) -> None:
    file = tmp_path / "braces.csv"
    rows = [("{" + str(uuid.UUID(int=u)) + "}", f"[{i}]", t) for u, i, t, _ in ROWS]
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    data = load_dataset(data=str(file), columns="user_id,item_id,timestamp")
    assert data.log.n_users == len(TRUTH)


def test_parts_of_other_orders_and_what_lies_beside_them(tmp_path: Path) -> None:
    whole, turned = PLAIN.decode().splitlines(), table(NAMES[::-1], row=lambda *r: r[::-1])
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "a.csv").write_text("\n".join(whole[:60]) + "\n")
    (tmp_path / "b.csv").write_text("\n".join([NAMES[0] + ",extra," + ",".join(NAMES[1:])]) + "\n")
    lines = turned.splitlines()
    (tmp_path / "z.csv").write_text("\n".join([lines[0], *lines[60:]]) + "\n")
    for name in ("_SUCCESS", ".part.crc", "empty.csv"):
        (tmp_path / name).write_text("" if name == "empty.csv" else "x")
    assert content(load_dataset(data=str(tmp_path))) == TRUTH


def frame_of(**columns: Any) -> dict[str, Any]:
    frame = {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}
    return frame | columns


def mixed(first: Any, others: Any) -> Any:
    """A column of two types."""
    return np.array([first, *[others] * (len(ROWS) - 1)], object)


FRAMES: dict[str, dict[str, Any]] = {
    "decimals": frame_of(user_id=[decimal.Decimal(row[0]) for row in ROWS]),
    "python dates with a zone": frame_of(
        timestamp=[dt.datetime.fromtimestamp(row[2], dt.UTC) for row in ROWS]
    ),
    "since": frame_of(timestamp=np.array([row[2] for row in ROWS], "m8[s]")),
    "unsigned": frame_of(item_id=np.array([row[1] for row in ROWS], np.uint16)),
    "text": frame_of(user_id=np.array([str(row[0]) for row in ROWS])),
}


@pytest.mark.parametrize("name", FRAMES)
def test_columns_of_many_types(name: str) -> None:
    assert content(Dataset.from_frame(FRAMES[name])) == TRUTH


def test_identifiers_of_the_uuid_module() -> None:
    data = Dataset.from_frame(frame_of(user_id=[uuid.UUID(int=row[0]) for row in ROWS]))
    assert str(uuid.UUID(int=100)) in data.log.user_ids.tolist()


def test_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=list(NAMES))
    for made in (
        frame.set_index("user_id"),
        frame.set_index(["user_id", "item_id"]),
        frame.astype({"user_id": "category", "item_id": "string"}),
        frame.astype({"user_id": "Int64", "timestamp": "Int64"}),
        frame.assign(timestamp=pandas.to_timedelta(frame.timestamp, unit="s")),
    ):
        before = made.copy()
        assert content(Dataset.from_frame(made)) == TRUTH
        pandas.testing.assert_frame_equal(made, before)
    numbered = pandas.DataFrame(ROWS)
    assert content(Dataset.from_frame(numbered, user_col=0, item_col=1, time_col=2)) == TRUTH


def test_parquet_as_databases_write_it(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    users = arrow.array([row[0] for row in ROWS])
    whole = arrow.table(frame_of())
    for i, column in enumerate(
        (
            users.cast(arrow.decimal128(20, 0)),
            users.cast(arrow.string()).dictionary_encode(),
            users.cast(arrow.large_string()),
        )
    ):
        file = tmp_path / f"{i}.parquet"
        parquet.write_table(whole.set_column(0, "user_id", column), file)
        assert content(load_dataset(data=str(file))) == TRUTH
    file = tmp_path / "bytes.parquet"
    column = arrow.array([str(row[0]).encode() for row in ROWS])
    parquet.write_table(whole.set_column(0, "user_id", column), file)
    with pytest.raises(InputError, match=r"row 0: b'1.*decode the bytes, or cast the column"):
        load_dataset(data=str(file))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("log.csv", "Dataset.from_file reads files"),
        ([{"user_id": 1}], "pandas.DataFrame.records."),
        (
            frame_of(user_id=np.array([1, *["a"] * (len(ROWS) - 1)], object)),
            "row 1: 'a', .*make all of them text",
        ),
        (
            frame_of(user_id=np.array(["a", *[1] * (len(ROWS) - 1)], object)),
            "row 1: 1, .*make all of them text",
        ),
        (frame_of(user_id=[b"a"] * len(ROWS)), "decode the bytes"),
        (frame_of(user_id=[decimal.Decimal("1.5")] * len(ROWS)), "row 0: Decimal"),
    ],
)
def test_frames_that_are_refused(frame: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Dataset.from_frame(frame)
