"""The C++ reader and its numpy twin agree on every file, good or bad, bit by bit, word by word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mclrec_fast.data import numpy_reader, reader
from mclrec_fast.data.build import to_csr
from mclrec_fast.data.layout import ColumnNames, Layout, find_layout
from mclrec_fast.data.messages import fail
from mclrec_fast.data.problems import Problem
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
    for name in ("users", "items", "user_ids", "item_ids", "times", "ratings"):
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
    with pytest.raises(ValueError, match="outside the table"):
        module.read(b"x", True, ",", True, 2, 0, 2, -1, -1, 0, 1, 1)
    with pytest.raises(OSError):
        module.read(b"/nonexistent/x", True, ",", True, 2, 0, 1, -1, -1, 0, 1, 1)
