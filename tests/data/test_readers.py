"""The C++ reader and its numpy twin agree on every file, good or bad, bit by bit, word by word."""

import bz2
import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mclrec_fast.data import numpy_reader, reader
from mclrec_fast.data.build import to_csr
from mclrec_fast.data.census import count_repeats
from mclrec_fast.data.columns import ColumnNames
from mclrec_fast.data.layout import Layout, find_layout
from mclrec_fast.data.messages import fail
from mclrec_fast.data.problems import Problem
from mclrec_fast.data.source import Source
from mclrec_fast.data.table import Table
from mclrec_fast.errors import InputError

needs_native = pytest.mark.skipif(not reader.available(), reason="the C++ reader is not built")
many = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Result = tuple[Table, list[Problem], int]


def same_array(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.tolist() == b.tolist()


def assert_same(a: Result, b: Result) -> None:
    assert a[1:] == b[1:]
    if a[2]:
        return
    for name in ("users", "items", "user_ids", "item_ids", "times", "ratings", "then"):
        assert same_array(getattr(a[0], name), getattr(b[0], name)), name


def read_both(path: Path, layout: Layout, blocks: tuple[int, ...] = (1, 16, 64)) -> Result:
    """The twin's result, after checking that blocks, threads and readers make no difference."""
    expected = numpy_reader.read(path, layout)
    assert_same(numpy_reader.read(path, layout, block_bytes=blocks[1]), expected)
    assert_same(reader.read_native(path, layout, 1), expected)
    for threads, block in zip((2, 3, 7), blocks, strict=True):
        got = reader.read_native(path, layout, threads, bytes_per_thread=1, block_bytes=block)
        assert_same(got, expected)
    return expected


integers = st.integers(-(10**6), 10**6).map(str)
odd_integers = st.sampled_from(
    "0 -0 00 007 +5 -5 9223372036854775807 9223372036854775808 -9223372036854775808 "
    "-9223372036854775809 123456789012345678 1234567890123456789 4194303 4194304 "
    "111111111111111111111111111111".split()
)
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
odd_texts = st.sampled_from(
    ["", " ", "a b", " x ", "\t", 'say "hi"', '"q"', '"a""b"', '"open', '"q" tail', "x" * 1100]
)
more_texts = st.sampled_from(
    ["é", "日本語", "a,b", '"a,b"', "x\r", "-", "1e5", "item", "x" * 50, '"', '""', '" 7 "']
)
ids = st.one_of(integers, integers, odd_integers, words, odd_texts, more_texts)
floats = st.floats(allow_nan=False, allow_infinity=False).map(repr)
odd_numbers = st.sampled_from(
    "nan NaN -inf Infinity 1e400 -1e400 1e-400 5e-324 1. .5 . 1e 1e+ +1.5 -0.0 -0 0x10 1_000 1,5 "
    "2024-01-01 ++1 e5 9007199254740993 9223372036854775808 0.1e-2 00012 1.5.2 infinit".split()
)
numbers = st.one_of(
    integers, integers, floats, odd_numbers, st.sampled_from(["", " 12 ", "1" * 400, "1" * 1100])
)
line_ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\r\n\r\n"])
noise = st.sampled_from([b"", b"", b"", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\r", b'"'])


@st.composite
def table_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A table with some of the columns, most lines good or most lines bad."""
    extension = draw(st.sampled_from(["csv", "tsv", "inter"]))
    names = ["user_id", "item_id"]
    names += draw(st.sampled_from([[], ["timestamp"], ["rating"], ["timestamp", "rating"]]))
    names = draw(st.permutations(names + draw(st.sampled_from([[], ["note"]]))))
    delimiter = "," if extension == "csv" else "\t"
    tame = draw(st.booleans())
    kinds = {
        "user_id": integers if tame else ids,
        "item_id": draw(st.sampled_from([integers, ids])),
    }
    kinds |= {"timestamp": integers if tame else numbers, "rating": numbers, "note": odd_texts}
    types = {"timestamp": "float", "rating": "float"}
    header = delimiter.join(
        f"{name}:{types.get(name, 'token')}" if extension == "inter" else name for name in names
    )
    lines = [header + draw(st.sampled_from(["\n", "\r\n"]))]
    for _ in range(draw(st.integers(0, 12))):
        fields = [draw(kinds[name]) for name in names]
        if not tame and draw(st.integers(0, 9)) == 0:
            fields = fields[1:] if draw(st.booleans()) else [*fields, "more"]
        lines.append(delimiter.join(fields) + draw(line_ends))
    content = "".join(lines).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        content = content.rstrip(b"\r\n")
    body = content.index(b"\n") + 1 if b"\n" in content else len(content)
    at = draw(st.integers(body, len(content)))
    return extension, content[:at] + draw(noise) + content[at:]


moments = st.sampled_from(
    """
    2020-09-13 2020-09-13T21:18:11 2020-09-13T21:18:11.599Z 2020-09-13T21:18:11,5+02:00
    2020/09/13 20200913T211811 20200913 2020-02-29 2021-02-29 1900-02-29 2000-02-29 2020-13-01
    2020-00-10 2020-01-00 2020-01-32 2020-04-31 1677-12-31 1678-01-01 2261-12-31 2262-01-01
    0000-01-01 9999-12-31 2020-09-13T24:00 2020-09-13T21 2020-09-13T2118 2020-09-13T21:18:60
    21:18 21:18:11.25 25:00 2020-09-13T21:18:11-1130 2020-09-13T21:18:11+2500
    2020-09-13T21:18:11.1234567891234Z 2020-9-13 2020-09-13T 2020-09-13Z 2020-09-13T21:1811
    13.09.2020 1600000000 NaT 2020-09/13
    """.split()
)
blank_moments = st.sampled_from(
    [
        "2020-09-13 21:18:11",
        "2020-09-13 21:18:11.599 UTC",
        "2020-09-13 21:18:11 +0200",
        " 2020-09-13",
        "20200913 211811",
        "2020-09-13  21:18",
        '"2020-09-13 21:18"',
        "2020-09-13 21:18:11 ",
        "",
    ]
)
mangled = st.builds(
    lambda text, at, c: text[: at % len(text)] + c + text[at % len(text) + 1 :],
    moments,
    st.integers(0, 50),
    st.sampled_from("0123456789-:TZ+ ./,x"),
)


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[Layout, bytes]:
    """A table of any separator, with what breaks ties, and times in words or numbers."""
    delimiter = draw(st.sampled_from([",", "\t", ";", "::", " ", " "]))
    width = draw(st.integers(2, 6))
    columns = draw(st.permutations(range(width)))
    parts = [columns[i] if i < width else -1 for i in range(5)]
    iso = draw(st.booleans()), draw(st.booleans())
    tame = draw(st.booleans())
    uniform = draw(
        st.sampled_from(["2020-09-{:02}", "2020-09-{:02}T21:18:11.5Z", "2020-09-{:02} 07:08:09"])
    )
    words = st.integers(0, 31).map(uniform.format)
    times = [
        (words if tame else st.one_of(words, moments, blank_moments, mangled)) if in_words
        else (integers if tame else numbers)
        for in_words in iso
    ]  # fmt: skip
    kinds = {parts[0]: integers if tame else ids, parts[1]: draw(st.sampled_from([integers, ids]))}
    kinds |= {parts[2]: times[0], parts[3]: numbers, parts[4]: times[1]}
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        fields = [draw(kinds.get(column, odd_texts)) for column in range(width)]
        gap = (
            draw(st.sampled_from([" ", "\t", "  "])) if delimiter == " " and not tame else delimiter
        )
        edge = draw(st.sampled_from(["", "", "", " "]))
        lines.append(edge + gap.join(fields) + edge + draw(line_ends))
    content = "".join(lines).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(content)))
    layout = Layout(
        "csv", "table", delimiter, draw(st.booleans()), tuple(map(str, range(width))),
        *parts[:4], then=parts[4], time_is_iso=iso[0], then_is_iso=iso[1],
    )  # fmt: skip
    return layout, content[:at] + draw(noise) + content[at:]


@needs_native
@many
@given(laid_out())
def test_readers_agree_on_layouts(tmp_path: Path, table: tuple[Layout, bytes]) -> None:
    layout, content = table
    path = tmp_path / "log"
    path.write_bytes(content)
    read_both(path, layout)


@needs_native
@pytest.mark.parametrize("end", ["", " ", "  ", "\t"])
def test_a_run_of_blanks_at_the_end_is_no_field(tmp_path: Path, end: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"1 2 3\n4 5{end}\n6 7 8{end}\n{end}\n")
    layout = Layout("csv", "table", " ", True, ("u", "i", "x"), 0, 1)
    _, problems, count = read_both(path, layout)
    assert count == 1 and (problems[0].line, problems[0].number) == (2, 2)


@needs_native
@many
@given(st.one_of(moments, blank_moments, mangled))
def test_one_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(f"1;2;{text}\n".encode())
    layout = Layout("csv", "table", ";", False, ("u", "i", "t"), 0, 1, 2, time_is_iso=True)
    read_both(path, layout)


@needs_native
@many
@given(laid_out(), st.sampled_from([gzip.compress, bz2.compress]))
def test_streams_give_what_files_give(
    tmp_path: Path, table: tuple[Layout, bytes], compress: Any
) -> None:
    layout, content = table
    plain, packed = tmp_path / "log", tmp_path / "log.z"
    plain.write_bytes(content)
    packed.write_bytes(
        compress(content[: len(content) // 2]) + compress(content[len(content) // 2 :])
    )
    expected = numpy_reader.read(plain, layout)
    assert_same(numpy_reader.read(Source(packed), layout), expected)
    assert_same(reader.read_native(Source(packed), layout, 2, block_bytes=16), expected)


@needs_native
@many
@given(st.data())
def test_the_census_agrees(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    lengths = rng.integers(0, data.draw(st.sampled_from([1, 4, 40])), data.draw(st.integers(1, 9)))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.integers(
        1, data.draw(st.sampled_from([2, 5, 2**31 - 1])), offsets[-1], dtype=np.int32
    )
    hours = rng.integers(0, 6, offsets[-1])
    for a, b in pairwise(offsets.tolist()):
        hours[a:b].sort()
    module = pytest.importorskip("mclrec_fast._reader")
    for times in (None, hours, hours / 8):
        expected = count_repeats(items, offsets, times)
        for threads in (1, 3):
            repeats, tied, duplicates = module.census(items, offsets, times, threads)
            assert repeats.tolist() == expected.repeats.tolist()
            assert (tied, duplicates) == (expected.tied, expected.duplicates)


def test_a_census_by_hand() -> None:
    items = np.array([5, 6, 5, 5, 5, 6, 5], dtype=np.int32)
    found = count_repeats(items, np.array([0, 5, 7]), np.array([1, 2, 2, 2, 3, 3, 3]))
    assert found.repeats.tolist() == [False, False, True, True, True, False, False]
    assert (found.tied, found.duplicates) == (5, 1)


@needs_native
def test_ids_that_collide_are_read_in_linear_time(tmp_path: Path) -> None:
    """Made for the fixed constants that a hash without a key would have."""
    factor, mask = 0xD6E8FEB86659FD93, 2**64 - 1
    inverse = pow(factor, -1, 2**64)
    ids = [((k << 20) * inverse & mask) ^ 0x9E3779B97F4A7C15 for k in range(100_000)]
    signed = [value - 2**64 if value >= 2**63 else value for value in ids]
    path = tmp_path / "log.csv"
    path.write_text("user,item\n" + "".join(f"{value},1\n" for value in signed))
    layout = find_layout(path, "csv", ColumnNames(), False)
    start = time.perf_counter()
    table, _, _ = reader.read_native(path, layout, 1)
    assert time.perf_counter() - start < 1.5
    assert table.user_ids.tolist() == signed


@st.composite
def text_files(draw: st.DrawFn) -> bytes:
    """Lines of a user and items."""
    tame = draw(st.booleans())
    token = integers if tame else ids
    lines = []
    for number in range(draw(st.integers(0, 10))):
        user = str(number) if tame else draw(token)
        items = draw(st.lists(token, min_size=0 if not tame else 1, max_size=5))
        gap = draw(st.sampled_from([" ", " ", "\t", "  "]))
        lines.append(gap.join([user, *items]) + draw(line_ends))
    content = "".join(lines).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(noise) + content[at:]


@needs_native
@many
@given(table_files())
def test_readers_agree_on_tables(tmp_path: Path, file: tuple[str, bytes]) -> None:
    extension, content = file
    path = tmp_path / f"log.{extension}"
    path.write_bytes(content)
    header = content.split(b"\n")[0]
    need_rating = b"rating" in header and extension != "tsv"
    try:
        layout = find_layout(path, "auto", ColumnNames(), need_rating)
    except InputError:
        return  # a header spoilt by noise: said before any reader starts
    read_both(path, layout)


@needs_native
@many
@given(text_files())
def test_readers_agree_on_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    read_both(path, Layout("text", "text"))


@pytest.mark.fast
@needs_native
def test_readers_agree_on_a_larger_log(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = 60_000
    columns = [rng.integers(-5, 9_000_000, rows), rng.integers(0, 700, rows)]
    columns.append(rng.integers(0, 10**12, rows))
    path = tmp_path / "log.csv"
    lines = map("{},{},{}\n".format, *(column.tolist() for column in columns))
    path.write_text("user,item,time\n" + "".join(lines))
    layout = find_layout(path, "csv", ColumnNames(), False)
    table, _, bad = read_both(path, layout, (10_000, 100_000, 1 << 20))
    assert bad == 0
    for got, ids_, column in (
        (table.users, table.user_ids, columns[0]),
        (table.items, table.item_ids, columns[1]),
    ):
        assert np.array_equal(ids_[got], column)
        assert (np.diff(np.unique(got, return_index=True)[1]) > 0).all()  # by first appearance
    assert table.times is not None and np.array_equal(table.times, columns[2])


@needs_native
def test_ids_turn_into_text_late_and_keep_their_codes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"{i % 50},{i % 7}" for i in range(300)] + ["u7,3", "5,007", "7,7"]
    path.write_text("user,item\n" + "\n".join(rows))
    table, _, _ = read_both(path, find_layout(path, "csv", ColumnNames(), False))
    assert table.user_ids.tolist() == [*map(str, range(50)), "u7"]
    assert table.item_ids.tolist() == [*map(str, range(7)), "007", "7"]


@needs_native
def test_huge_lines_and_ids(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    items = " ".join(map(str, range(200_000)))
    path.write_text(f"1 {items}\n2 {'x' * 5_000_000}\n3 4\n")
    _, problems, count = read_both_once(path, Layout("text", "text"))
    assert count == 1 and problems[0].line == 2 and problems[0].number == 5_000_000


def read_both_once(path: Path, layout: Layout) -> Result:
    expected = numpy_reader.read(path, layout)
    assert_same(reader.read_native(path, layout, 2), expected)
    return expected


@needs_native
def test_first_five_problems_and_a_count_from_all_threads(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = [f"{i},{i}" if i % 10 else f"{i}" for i in range(200)]
    path.write_text("user,item\n" + "\n".join(lines) + "\n")
    layout = find_layout(path, "csv", ColumnNames(), False)
    _, problems, count = read_both(path, layout)
    assert count == 20
    assert [problem.line for problem in problems] == [2, 12, 22, 32, 42]
    text = str(fail("log.csv", layout, problems, count))
    assert "log.csv:2: 1 fields, expected 2 ('user,item')" in text
    assert "... and 15 more (20 bad lines in all)" in text


@needs_native
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_grouping_is_stable_and_agrees(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 60))
    n_users = data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    users = rng.integers(0, n_users, rows).astype(np.int32)
    items = np.arange(rows, dtype=np.int32)
    scale = data.draw(st.sampled_from([3, 10**9, 2**62]))
    integer = rng.integers(-scale, scale, rows)
    real = data.draw(st.sampled_from([integer / 8, np.round(rng.normal(size=rows), 1) * 1e300]))
    for times in (None, integer, real + 0.0):
        expected = to_csr(users, items, times, n_users)
        for threads in (1, 3):
            own = None if times is None else times.copy()
            table = Table(users, items.copy(), np.arange(n_users), np.arange(rows), own)
            got = reader.group_rows(table, "native", threads)
            for a, b in zip(got, expected, strict=True):
                assert same_array(a, b)


@needs_native
def test_grouping_many_rows_of_one_user() -> None:
    rng = np.random.default_rng(0)
    for rows in (8191, 8192, 70_000):
        users = np.minimum(rng.integers(0, 9, rows), 1).astype(np.int32)
        items = np.arange(rows, dtype=np.int32)
        for times in (rng.integers(0, 50, rows), rng.normal(size=rows) * 1e200):
            expected = to_csr(users, items, times, 2)
            table = Table(users, items.copy(), np.arange(2), items, times.copy())
            for a, b in zip(reader.group_rows(table, "native", 2), expected, strict=True):
                assert same_array(a, b)


@needs_native
def test_the_compiled_functions_check_their_arguments() -> None:
    module = pytest.importorskip("mclrec_fast._reader")
    good = np.zeros(3, dtype=np.int32)
    for users, items, times, n_users in (
        (np.array([0, 5, 0], dtype=np.int32), good, None, 2),
        (np.array([0, -1, 0], dtype=np.int32), good, None, 2),
        (good, good[:2], None, 2),
        (good, good, np.zeros(2), 2),
        (good.astype(np.int64), good, None, 2),
        (np.zeros((3, 1), dtype=np.int32), good, None, 2),
    ):
        with pytest.raises(ValueError):
            module.group(users, items, times, n_users, 1)
    fixed = np.zeros(3, dtype=np.int32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError):
        module.group(good, fixed, None, 1, 1)
    layout = Layout("csv", "table", ",", True, ("u", "i"), 0, 1)
    change: dict[str, Any]
    for change in ({"item": 2}, {"user": -1}, {"time": 2}, {"rating": -2}):
        with pytest.raises(ValueError, match="outside the table"):
            module.read(b"x", replace(layout, **change), 1)
    for change in ({"item": 0}, {"time": 1}):  # one of the two would never be filled
        with pytest.raises(ValueError, match="two parts"):
            module.read(b"x", replace(layout, **change), 1)
    for delimiter in ("", ":::"):
        with pytest.raises(ValueError, match="delimiter"):
            module.read(b"x", replace(layout, delimiter=delimiter), 1)
    for threads, block in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="1 or more"):
            module.read(b"x", layout, threads, block_bytes=block)
    offsets = np.array([0, 2, 3])
    for wrong in ([0, 2, 4], [1, 2, 3], [0, 3, 2, 3], [0]):
        with pytest.raises(ValueError, match="offsets"):
            module.census(good, np.array(wrong), None, 1)
    for items, times in ((good.astype(np.int64), None), (good, np.zeros(2)), (good, [1, 2, 3])):
        with pytest.raises(ValueError, match="contiguous"):
            module.census(items, offsets, times, 1)
    with pytest.raises(OSError):
        module.read(b"/nonexistent/x", layout, 1)


@needs_native
@pytest.mark.parametrize("threads", [1, 3])
def test_a_reader_can_be_asked_how_far_it_is(tmp_path: Path, threads: int) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"u,i\n" + b"1,2\n" * 1000)
    module = pytest.importorskip("mclrec_fast._reader")
    progress = module.Progress()
    assert progress.bytes == 0
    layout = Layout("csv", "table", ",", False, ("u", "i"), offset=4)
    found = module.read(bytes(path), layout, threads, 100, 64, progress=progress)
    assert (progress.bytes, len(found["users"])) == (4000, 1000)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chosen", [pytest.param("native", marks=needs_native), "numpy"])
def test_reading_reports_the_bytes_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, chosen: str
) -> None:
    path = tmp_path / ("log.csv.gz" if packed else "log.csv")
    text = b"u,i\n" + b"1,2\n" * 1000
    path.write_bytes(gzip.compress(text) if packed else text)
    asked: list[tuple[int, int]] = []

    @contextmanager
    def reported(what: str, total: int, done: Callable[[], int]) -> Iterator[None]:
        assert "log.csv" in what
        yield
        asked.append((total, done()))

    monkeypatch.setattr(reader, "reported", reported)
    monkeypatch.setattr("mclrec_fast.bars.reported", reported)
    source = Source(path)
    layout = Layout("csv", "table", ",", False, ("u", "i"), offset=4, first_line=2)
    assert len(reader.read_table(source, layout, chosen, 2).users) == 1000
    size = path.stat().st_size - (4 if chosen == "native" and not packed else 0)
    assert asked == [(size, size)]
