"""The log reader without a compiler: the twin of csrc/reader.cpp, same tables, same problems.

Blocks of a table whose lines are all plain are taken apart with numpy; any other block goes line
by line through fields.py, which is the definition of the format. Single-threaded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import problems
from .fields import check_id, check_line, is_canonical, parse_moment, split_line
from .ids import as_objects
from .layout import Layout
from .plain import find_fields, parse_integers, parse_times
from .problems import ITEM, MAX_DETAIL_BYTES, MAX_SHOWN, RATING, THEN, TIME, USER, Problem
from .source import Source
from .table import Table

_TABLE_LIMIT = 1 << 22  # ids below it are looked up in an array


class IdCoder:
    """Numbers ids in order of first appearance; ids are kept as their text (bytes)."""

    def __init__(self) -> None:
        """Start empty, with integers looked up in an array as long as there is nothing else."""
        self._codes: dict[bytes, int] = {}
        self._table = np.full(1 << 10, -1, dtype=np.int32)
        self._canonical = True

    def code(self, token: bytes) -> int:
        """The code of one id."""
        code = self._codes.get(token)
        if code is None:
            code = self._codes[token] = len(self._codes)
            if self._canonical:
                self._canonical = is_canonical(token)
                self._enter(token, code)
        return code

    def _enter(self, token: bytes, code: int) -> None:
        if self._canonical and len(token) <= 7 and (value := int(token)) in range(_TABLE_LIMIT):
            if value >= len(self._table):
                grown = np.full(1 << value.bit_length(), -1, dtype=np.int32)
                grown[: len(self._table)] = self._table
                self._table = grown
            self._table[value] = code

    def code_integers(self, values: NDArray[np.int64]) -> NDArray[np.int32]:
        """The codes of many integer ids, int32 [n]."""
        small = bool((values >= 0).all() and (values < len(self._table)).all())
        if small and self._canonical:
            codes = self._table[values]
            if (codes >= 0).all():
                return codes
        distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        codes = np.empty(len(distinct), dtype=np.int32)
        for at in np.argsort(first, kind="stable").tolist():
            codes[at] = self.code(b"%d" % distinct[at])
        return codes[inverse]

    def ids(self) -> NDArray[Any]:
        """The external ids by code: int64 when all are canonical integers, else str objects."""
        if self._canonical:
            return np.array([int(token) for token in self._codes], dtype=np.int64)
        return as_objects([token.decode("utf-8") for token in self._codes])


class NumberColumn:
    """Numbers in the order they come: int64 until one is not an integer, then float64."""

    def __init__(self, dtype: type) -> None:
        """`dtype` is what an empty column has."""
        self._parts: list[NDArray[Any]] = []
        self._dtype = dtype

    def extend(self, values: NDArray[np.int64] | list[int | float]) -> None:
        """Add a block of numbers."""
        if isinstance(values, list):
            floats = any(isinstance(value, float) for value in values)
            values = np.array(values, dtype=np.float64 if floats else np.int64)
        self._parts.append(values)

    def array(self) -> NDArray[Any]:
        """All of them."""
        if not self._parts:
            return np.empty(0, dtype=self._dtype)
        return np.concatenate(self._parts)


class _Reading:
    """What has been read so far."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.users, self.items = IdCoder(), IdCoder()
        self.user_parts: list[NDArray[np.int32]] = []
        self.item_parts: list[NDArray[np.int32]] = []
        self.times, self.ratings = NumberColumn(np.int64), NumberColumn(np.float64)
        self.then = NumberColumn(np.int64)
        self.first_line_of: dict[int, int] = {}
        self.problems: list[Problem] = []
        self.n_problems = 0

    def report(self, problem: Problem) -> None:
        self.n_problems += 1
        if len(self.problems) < MAX_SHOWN:
            self.problems.append(problem)

    def add_codes(self, users: Any, items: Any) -> None:
        self.user_parts.append(np.asarray(users, dtype=np.int32))
        self.item_parts.append(np.asarray(items, dtype=np.int32))

    def table(self) -> Table:
        empty = np.empty(0, dtype=np.int32)
        ratings = self.ratings.array().astype(np.float64) if self.layout.rating >= 0 else None
        return Table(
            users=np.concatenate(self.user_parts or [empty]),
            items=np.concatenate(self.item_parts or [empty]),
            user_ids=self.users.ids(),
            item_ids=self.items.ids(),
            times=self.times.array() if self.layout.time >= 0 else None,
            ratings=ratings,
            then=self.then.array() if self.layout.then >= 0 else None,
        )


def _file_blocks(path: Path, offset: int, block_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(block_bytes):
            yield block


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines; only the last one may lack its newline."""
    carry: list[bytes] = []
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join((*carry, block[:cut]))
            carry = []
        carry.append(block[cut:])
    if any(carry):
        yield b"".join(carry)


def _lines(block: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their ends; a last empty piece is no line."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, first):
        yield number, line.removesuffix(b"\r")


def _read_text_line(reading: _Reading, number: int, line: bytes) -> None:
    problem = check_line(line, number)
    if problem:
        return reading.report(problem)
    tokens = [token for token in line.replace(b"\t", b" ").split(b" ") if token]
    if not tokens:
        return None
    for at, token in enumerate(tokens):
        problem = check_id(token, ITEM if at else USER, number)
        if problem:
            return reading.report(problem)
    if len(tokens) == 1:
        found = tokens[0][:MAX_DETAIL_BYTES]
        return reading.report(Problem(number, problems.NO_ITEMS, USER, found))
    user = reading.users.code(tokens[0])
    first = reading.first_line_of.setdefault(user, number)
    if first != number:
        found = tokens[0][:MAX_DETAIL_BYTES]
        return reading.report(Problem(number, problems.REPEATED_USER, USER, found, first))
    items = [reading.items.code(token) for token in tokens[1:]]
    return reading.add_codes([user] * len(items), items)


def _parse_row(layout: Layout, number: int, line: bytes) -> list[Any] | Problem:
    """User token, item token, time, rating and tie-breaker (None where there is no column)."""
    problem = check_line(line, number)
    if problem:
        return problem
    fields = split_line(line, layout.delimiter.encode(), layout.quotes, number)
    if isinstance(fields, Problem):
        return fields
    if layout.delimiter == " " and not fields:
        return []
    if len(fields) != layout.columns:
        return Problem(number, problems.FIELD_COUNT, number=len(fields))
    row: list[Any] = [fields[layout.user], fields[layout.item], None, None, None]
    for part in (USER, ITEM):
        problem = check_id(row[part], part, number)
        if problem:
            return problem
    for part, column, iso in (
        (TIME, layout.time, layout.time_is_iso),
        (THEN, layout.then, layout.then_is_iso),
        (RATING, layout.rating, False),
    ):
        if column >= 0:
            value = parse_moment(fields[column], iso, part, number)
            if isinstance(value, Problem):
                return value
            row[part] = value
    return row


def _read_table_lines(reading: _Reading, block: bytes, first: int) -> None:
    """A block of a table, line by line."""
    layout = reading.layout
    users: list[int] = []
    items: list[int] = []
    times: list[int | float] = []
    ratings: list[int | float] = []
    then: list[int | float] = []
    for number, line in _lines(block, first):
        if not line:
            continue
        row = _parse_row(layout, number, line)
        if isinstance(row, Problem):
            reading.report(row)
            continue
        if not row:  # blanks alone
            continue
        users.append(reading.users.code(row[USER]))
        items.append(reading.items.code(row[ITEM]))
        times.append(row[TIME])
        ratings.append(row[RATING])
        then.append(row[THEN])
    reading.add_codes(users, items)
    if layout.time >= 0:
        reading.times.extend(times)
    if layout.rating >= 0:
        reading.ratings.extend(ratings)
    if layout.then >= 0:
        reading.then.extend(then)


def _read_plain_block(reading: _Reading, block: bytes) -> bool:
    """A block whose wanted fields are all plain; False (nothing read) for any other."""
    layout = reading.layout
    prepared = _plain_text(block, layout)
    if prepared is None:
        return False
    text = np.frombuffer(prepared[0], dtype=np.uint8)
    found = find_fields(text, prepared[1], layout.columns)
    if found is None:
        return False
    starts, ends = found
    ids = [parse_integers(text, starts[:, c], ends[:, c], True) for c in (layout.user, layout.item)]
    if ids[0] is None or ids[1] is None:
        return False
    moments = []
    for column, iso in ((layout.time, layout.time_is_iso), (layout.then, layout.then_is_iso)):
        if column < 0:
            continue
        at, end = starts[:, column], ends[:, column]
        values = parse_times(text, at, end) if iso else parse_integers(text, at, end, False)
        if values is None:
            return False
        moments.append(values)
    users = reading.users.code_integers(ids[0])
    reading.add_codes(users, reading.items.code_integers(ids[1]))
    if layout.time >= 0:
        reading.times.extend(moments[0])
    if layout.then >= 0:
        reading.then.extend(moments[-1])
    return True


def _plain_text(block: bytes, layout: Layout) -> tuple[bytes, int] | None:
    """A block whose fields are parted by one byte each, and that byte; None for any other block."""
    if layout.rating >= 0 or b"\0" in block or (layout.quotes and b'"' in block):
        return None
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
        if b"\r" in block:
            return None
    if not block.endswith(b"\n"):
        block += b"\n"
    if layout.delimiter == " ":
        runs = any(odd in block for odd in (b"\t", b"  ", b"\n ", b" \n"))
        return None if runs or block.startswith(b" ") else (block, ord(" "))
    if len(layout.delimiter) == 1:
        return block, ord(layout.delimiter)
    return None if b"\1" in block else (block.replace(layout.delimiter.encode(), b"\1"), 1)


def larger(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Blocks put together to `size` or a little more."""
    held: list[bytes] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= size:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)


def read(
    source: Source | Path, layout: Layout, *, block_bytes: int = 1 << 22
) -> tuple[Table, list[Problem], int]:
    """Read a log.

    Args:
        source: the file, or its path.
        layout: what `find_layout` said about it.
        block_bytes: how much is read at a time, where the source is a path.

    Returns:
        The table, the first problems in line order, and how many bad lines there are. The table
        is to be used only when there are none.
    """
    reading = _Reading(layout)
    line = layout.first_line
    if isinstance(source, Path):
        blocks = _file_blocks(source, layout.offset, block_bytes)
    else:
        blocks = larger(source.blocks(layout.offset), block_bytes)
    for block in whole_lines(blocks):
        if layout.kind == "text":
            for number, text in _lines(block, line):
                _read_text_line(reading, number, text)
        elif not _read_plain_block(reading, block):
            _read_table_lines(reading, block, line)
        line += block.count(b"\n")
    return reading.table(), reading.problems, reading.n_problems
