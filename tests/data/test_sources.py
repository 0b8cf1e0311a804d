"""Where bytes come from: compressed files, streams, folders; headers, times, remedies that work."""

import bz2
import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast.data import Dataset, LogWarning, load_dataset, reader, source
from mclrec_fast.errors import InputError
from mclrec_fast.train import main

EVENT_TIME = Path(__file__).parent / "cases" / "event_time.csv"
READERS = ["numpy", *(["native"] if reader.available() else [])]
ROWS = [(u, i, 100 * u + (7 * i) % 10) for u in range(30) for i in range(5)]
PLAIN = "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)


@pytest.fixture(params=READERS)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def same(a: Dataset, b: Dataset) -> bool:
    return all(
        np.array_equal(getattr(a.log, name), getattr(b.log, name))
        for name in ("items", "offsets", "times", "user_ids", "item_ids")
    )


@pytest.fixture
def plain(tmp_path: Path) -> Dataset:
    (tmp_path / "plain.csv").write_text(PLAIN)
    return Dataset.from_file(tmp_path / "plain.csv")


def zstd(content: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


COMPRESSIONS = [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstd)]


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS)
def test_compressed(which: str, tmp_path: Path, plain: Dataset, suffix: str, compress: Any) -> None:
    for name in (f"log.csv{suffix}", "log.csv", f"log{suffix}"):  # the content decides
        (tmp_path / name).write_bytes(compress(PLAIN.encode()))
        data = Dataset.from_file(tmp_path / name, reader=which)
        assert same(data, plain) and data.card.format == "csv" and data.name == "log"
        (tmp_path / name).unlink()
    many = b"".join(compress(part.encode()) for part in PLAIN.splitlines(keepends=True))
    (tmp_path / f"log.csv{suffix}").write_bytes(many)
    assert same(Dataset.from_file(tmp_path / f"log.csv{suffix}", reader=which), plain)


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS)
def test_cut_off_and_damaged(tmp_path: Path, suffix: str, compress: Any) -> None:
    path = tmp_path / f"log.csv{suffix}"
    whole = compress(PLAIN.encode())
    for at in (5, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:at])
        with pytest.raises(InputError, match=r"damaged .* after \d+ bytes of text"):
            Dataset.from_file(path)


def test_every_flipped_bit_of_a_compressed_log_is_noticed_or_harmless(
    tmp_path: Path, plain: Dataset
) -> None:
    path = tmp_path / "log.csv.gz"
    whole = bytearray(gzip.compress(PLAIN.encode(), mtime=0))
    for bit in range(0, 8 * len(whole), 7):
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        try:
            assert same(Dataset.from_file(path), plain)
        except InputError:
            pass
        whole[bit // 8] ^= 1 << bit % 8


def test_bad_lines_of_a_compressed_log_are_named(which: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress((PLAIN + "1,2\n").encode()))
    with pytest.raises(InputError, match=r"log\.csv\.gz:152: 2 fields, expected 3"):
        Dataset.from_file(path, reader=which)


def test_zstd_without_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.csv.zst").write_bytes(zstd(PLAIN.encode()))
    monkeypatch.setattr(source, "_ZSTD", ())
    with pytest.raises(InputError, match="pip install pyarrow"):
        Dataset.from_file(tmp_path / "log.csv.zst")


def test_utf16(which: str, tmp_path: Path, plain: Dataset) -> None:
    (tmp_path / "log.txt").write_text(PLAIN.replace(",", "\t"), encoding="utf-16")
    assert same(Dataset.from_file(tmp_path / "log.txt", reader=which), plain)


STDIN = """
import sys
from mclrec_fast.data import Dataset
data = Dataset.from_file("-", reader=sys.argv[1])
print(data.name, data.card.source, data.card.interactions, data.card.sha256)
"""


@pytest.mark.parametrize("content", [PLAIN.encode(), gzip.compress(PLAIN.encode())])
def test_standard_input(which: str, content: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STDIN, which], input=content, capture_output=True, check=True
    )
    assert done.stdout.decode().startswith("stdin standard input 150 ")
    digest = hashlib.sha256(content).hexdigest()
    assert done.stdout.decode().strip().endswith(digest)


def test_nothing_on_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STDIN, "numpy"], input=b"", capture_output=True, check=False
    )
    assert b"standard input: nothing came" in done.stderr


def test_named_pipes(which: str, tmp_path: Path, plain: Dataset) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text(PLAIN))
    writer.start()
    data = Dataset.from_file(path, reader=which)
    writer.join()
    assert same(data, plain)


def parts(folder: Path, write: Any) -> None:
    (folder / "sub").mkdir(parents=True)
    for number, start in enumerate(range(0, len(ROWS), 40)):
        place = folder / "sub" if number == 1 else folder
        write(place / f"part-{number}", ROWS[start : start + 40])
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-0.crc").write_text("x")


def write_csv(path: Path, rows: Any) -> None:
    lines = "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    Path(f"{path}.csv").write_text("user,item,time\n" + lines)


def test_a_folder_of_parts(which: str, tmp_path: Path) -> None:
    parts(tmp_path / "log", write_csv)
    (tmp_path / "log" / "part-9.csv").write_text("user,item,time\n")  # a part without rows
    data = Dataset.from_file(tmp_path / "log", reader=which)
    assert data.name == "log" and data.card.interactions == 150
    by_name = [*ROWS[:40], *ROWS[80:], *ROWS[40:80]]
    (tmp_path / "one.csv").write_text(
        "user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in by_name)
    )
    assert same(data, Dataset.from_file(tmp_path / "one.csv"))
    before = data.log.sha256
    (tmp_path / "log" / "part-8.csv").write_text("user,item,time\nx,5,3\n")
    more = Dataset.from_file(tmp_path / "log", reader=which)
    assert more.log.sha256 != before
    assert {*more.log.user_ids.tolist()} == {*map(str, data.log.user_ids.tolist()), "x"}


def test_a_folder_of_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(path: Path, rows: Any) -> None:
        columns = dict(
            zip(("user", "item", "time"), map(list, zip(*rows, strict=True)), strict=True)
        )
        parquet.write_table(pyarrow.table(columns), f"{path}.parquet")

    parts(tmp_path / "log", write)
    data = Dataset.from_file(tmp_path / "log")
    assert data.card.format == "parquet" and data.card.interactions == 150


def test_folders_that_are_no_logs(tmp_path: Path) -> None:
    parts(tmp_path / "log", write_csv)
    (tmp_path / "log" / "README.md").write_text("about")
    with pytest.raises(InputError, match="different kinds of files"):
        Dataset.from_file(tmp_path / "log")
    (tmp_path / "log" / "README.md").unlink()
    (tmp_path / "log" / "part-7.csv").write_text("user,item\n1,2\n")
    with pytest.raises(InputError, match=r"part-7\.csv: its columns are user = 'user', item"):
        Dataset.from_file(tmp_path / "log")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("1 2 3 4 5\n")
    with pytest.raises(InputError, match="one line per user, which a folder of parts cannot hold"):
        Dataset.from_file(tmp_path / "text")


# --- headers ------------------------------------------------------------------------------------

ANY = "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)
SAME_TABLES = [
    ("log.csv", "sep=;\n" + PLAIN.replace(",", ";"), {}),
    ("log.csv", '"sep=|"\r\n' + PLAIN.replace(",", "|").replace("\n", "\r\n"), {}),
    ("log.csv", "\n\r\n" + PLAIN, {}),
    ("log.csv", ",,user,item,time\n" + "".join(f"9,,{line}\n" for line in ANY.splitlines()), {}),
    ("log.csv", "x,x,user,item,time\n" + "".join(f"9,,{line}\n" for line in ANY.splitlines()), {}),
    ("log.csv", ANY, {"columns": "user,item,time"}),
    ("log.csv", ANY, {"columns": "who,what,when", "user_col": "who", "item_col": "what",
                      "time_col": "when"}),
    ("log.csv", ANY, {"user_col": "1", "item_col": "2", "time_col": "3", "header": "no"}),
    ("log.csv", "a,b,c\n" + ANY, {"user_col": "1", "item_col": "2", "time_col": "3"}),
    ("log.csv", "0,1,2\n" + ANY, {"user_col": "0", "item_col": "1", "time_col": "2",
                                  "header": "yes"}),
    ("log.csv", PLAIN, {"columns": "user,item,time", "header": "yes"}),
    ("log.csv", PLAIN.replace("user", "u"), {"user_col": "u"}),
    ("log.dat", PLAIN.replace(",", "::"), {}),
    ("log.dat", ANY.replace(",", "::"), {"columns": "user,item,time"}),
    ("log.txt", PLAIN.replace(",", " "), {}),
    ("log.txt", PLAIN.replace(",", "  \t "), {}),
    ("log.txt", ANY.replace(",", " "), {"columns": "user,item,time"}),
    ("log.txt", ANY.replace(",", "\t"), {"user_col": "1", "item_col": "2", "time_col": "3",
                                        "header": "no"}),
    ("log.inter", PLAIN.replace(",", "\t").replace("user\titem\ttime", "user:token\titem:token\t"
                                                   "time:float"), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options"), SAME_TABLES)
def test_the_same_table_in_many_ways(
    which: str, tmp_path: Path, plain: Dataset, name: str, content: str, options: dict[str, Any]
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert same(Dataset.from_file(tmp_path / name, reader=which, **options), plain)


def test_a_single_row_without_an_end(which: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n1,2,2020-01-01")
    with pytest.raises(InputError, match="all 1 users have fewer than 3"):
        Dataset.from_file(tmp_path / "log.csv", reader=which)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "missing"])
def test_names_that_are_no_files(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read|no such file|must not hold a NUL"):
        Dataset.from_file(name)


def test_a_field_of_a_million_digits_is_read_in_linear_time(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("1" * 1_000_000 + "x,2\n1,2\n")
    start = time.perf_counter()
    with pytest.raises(InputError, match="no header"):
        Dataset.from_file(tmp_path / "log.csv")
    assert time.perf_counter() - start < 10


def test_lines_keep_their_numbers(which: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\n\nsep=;\nuser;item\n1;2\n1;2;3\n")
    with pytest.raises(InputError, match=r"log\.csv:6: 3 fields, expected 2 \('user;item'\)"):
        Dataset.from_file(tmp_path / "log.csv", reader=which)


def test_one_line_per_user_stays_what_it_was(which: str, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("1 5 6 7 8\n2 5 6 7 8\n3 8 7 6 5\n")
    data = Dataset.from_file(tmp_path / "log.txt", reader=which)
    assert data.card.format == "text" and data.card.users == 3 and data.card.interactions == 12


def test_a_header_of_any_width_is_read_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    wide = ",".join(f"feature_{i}" for i in range(200_000))
    path.write_text(f"user,item,time,{wide}\n" + ("1,2,3," + "," * 199_999 + "\n") * 4)
    start = time.perf_counter()
    assert Dataset.from_file(path).card.interactions == 4
    with pytest.raises(InputError, match="no column 'usr'"):
        Dataset.from_file(path, user_col="usr")
    path.write_text("x," * 600_000 + "\n1\n")
    with pytest.raises(InputError, match="no column for the user ids"):
        Dataset.from_file(path)
    assert time.perf_counter() - start < 20


# --- the order of events ------------------------------------------------------------------------

NAMES = [
    "event_time", "t_dat", "date", "datetime", "Date", "created_at", "createdAt", "viewed_at",
    "purchase_time", "InvoiceDate", "event timestamp", "reviewDate", "unixReviewTime", "ts",
    "EventTime", "order_purchase_timestamp", "last-updated-at",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["160000000{}", "2020-01-0{}", "2020-01-01T00:00:0{}.5+01:00"])
def test_times_are_found_by_name(tmp_path: Path, name: str, value: str) -> None:
    rows = "".join(f"1,{i},x,{value.format(9 - i)}\n" for i in range(8))
    (tmp_path / "log.csv").write_text(f"user,item,note,{name}\n" + rows)
    data = Dataset.from_file(tmp_path / "log.csv")
    assert data.card.columns["time"] == name
    assert data.log.item_ids[data.log.items].tolist() == list(range(7, -1, -1))


def test_a_column_of_dates_is_found_whatever_its_name(which: str, tmp_path: Path) -> None:
    rows = "".join(f"1,{i},2020-01-0{9 - i} 10:00\n" for i in range(8))
    (tmp_path / "log.csv").write_text("user,item,wann\n" + rows)
    data = Dataset.from_file(tmp_path / "log.csv", reader=which)
    assert data.log.item_ids[data.log.items].tolist() == list(range(7, -1, -1))
    assert "times are taken from column 'wann'" in data.card.notes[0]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("when", "160000000{}"),  # seconds since 1970, perhaps
        ("watch_time", "{}"),  # a length of time
        ("born,released", "2001-01-0{0},2002-01-0{0}"),  # two of a kind
    ],
)
def test_an_order_that_may_be_lost_is_said(tmp_path: Path, header: str, row: str) -> None:
    rows = "".join(f"1,{i},{row.format(9 - i)}\n" for i in range(8))
    (tmp_path / "log.csv").write_text(f"user,item,{header}\n" + rows)
    with pytest.warns(LogWarning, match=rf"log\.csv: no column was taken .*'{header[:4]}"):
        data = Dataset.from_file(tmp_path / "log.csv")
    assert data.card.times == "none, the order of the file"
    assert "times        none, the order of the file" in data.card.render()
    assert any("--time-col" in note for note in data.card.notes)
    named = Dataset.from_file(tmp_path / "log.csv", time_col=header.split(",")[0])
    assert named.log.item_ids[named.log.items].tolist() == list(range(7, -1, -1))
    kept = Dataset.from_file(tmp_path / "log.csv", ignore_times=True)  # no warning: an error here
    assert kept.log.item_ids[kept.log.items].tolist() == list(range(8))


def test_without_anything_like_a_time_nothing_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,price\n1,2,9.5\n1,3,8\n1,4,7\n1,5,6\n")
    assert Dataset.from_file(tmp_path / "log.csv").card.times == "none, the order of the file"


def test_then_by(which: str, tmp_path: Path) -> None:
    rows = [(1, 5, 10, 3), (1, 6, 10, 1), (1, 7, 9, 9), (1, 8, 10, 2), (1, 9, 10, 1)]
    text = "user,item,time,step\n" + "".join(f"{u},{i},{t},{s}\n" for u, i, t, s in rows)
    path = tmp_path / "log.csv"
    for content in (text, text.replace(",10,", ",2020-01-10,").replace(",9,9", ",2020-01-09,9")):
        path.write_text(content)
        data = Dataset.from_file(path, reader=which, then_by="step")
        assert data.log.item_ids[data.log.items].tolist() == [7, 6, 9, 8, 5]
        assert data.card.columns["then"] == "step"
        assert data.log.item_ids[1:].tolist() == [5, 6, 7, 8, 9]  # numbered in file order
    path.write_text(text + "1,6,10,0\n")
    first = Dataset.from_file(path, reader=which, then_by="step", dedupe="first")
    assert first.log.item_ids[first.log.items].tolist() == [7, 6, 9, 8, 5]
    assert first.log.item_ids[1:].tolist() == [5, 7, 8, 9, 6]


def test_two_units_in_one_column_are_noted(tmp_path: Path) -> None:
    rows = "".join(f"1,{i},160000000{i}{'000' if i > 2 else ''}\n" for i in range(6))
    (tmp_path / "log.csv").write_text("user,item,time\n" + rows)
    assert "two units in one column" in "\n".join(
        Dataset.from_file(tmp_path / "log.csv").card.notes
    )


def test_a_user_who_fills_the_samples_is_named(tmp_path: Path) -> None:
    lines = [f"{u} 1 2 3 4 5" for u in range(20)] + ["anonymous " + "7 8 " * 40]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    notes = "\n".join(Dataset.from_file(tmp_path / "log.txt").card.notes)
    assert "user 'anonymous' holds 77 of 117 (65.8%) training samples" in notes
    private = load_dataset(data=str(tmp_path / "log.txt"), user_ids=False)
    assert "anonymous" not in "\n".join(private.card.notes)


def test_the_order_of_events_is_learnt_from(tmp_path: Path) -> None:
    """By the order of the file the same five epochs reach .12, by the times .36."""
    arguments = ["--data", str(EVENT_TIME), "--epochs", "5", "--threads", "2"]
    out = tmp_path / "run"
    assert main([*arguments, "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["test"]["unmasked"]["ndcg@10"] > 0.25


# --- remedies -----------------------------------------------------------------------------------


def test_the_remedies_for_rows_read_as_one_line_per_user(which: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("1 5\n2 6\n3 7 8\n3 8 9\n")
    with pytest.raises(InputError, match="--columns user,item"):
        Dataset.from_file(path, reader=which)
    path.write_text("".join(f"{u} {i}\n" for i in range(4) for u in range(2000)))
    with pytest.raises(InputError, match="--format csv, or, where it has no header, with --col"):
        Dataset.from_file(path, reader=which)
    assert Dataset.from_file(path, reader=which, columns="user,item").card.interactions == 8000
    assert Dataset.from_file(path, reader=which, format="csv").card.interactions == 8000


def test_the_remedies_for_a_header_or_data(which: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("0,1,2\n" + ANY)
    with pytest.raises(InputError, match="--header yes or --header no"):
        Dataset.from_file(path, reader=which)
    options = {"user_col": "1", "item_col": "2"}
    yes = Dataset.from_file(path, header="yes", user_col="0", item_col="1", reader=which)
    no = Dataset.from_file(path, header="no", reader=which, **options)
    assert (yes.card.interactions, no.card.interactions) == (150, 151)
