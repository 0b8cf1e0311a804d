"""What the first lines of a file tell: which format it is, and what parts the fields of a table.

Only they are looked at, and nothing is read from them; layout.py finds the columns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .columns import ITEM_NAMES, USER_NAMES, ColumnNames, match_any
from .source import BOM, HEAD_BYTES, Source

FORMATS = ("auto", "text", "inter", "csv", "tsv", "movielens", "parquet")

_TYPED = re.compile(r"^[^\s:]+:(?:token|float)(?:_seq)?$")
_EXTENSIONS = {
    ".inter": "inter",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SEPARATOR_LINE = re.compile(rb'"?sep=(.)"?[ \t]*\r?')
_SEPARATORS = (",", "\t", ";", "|", "::")
BLANKS = " "
_LOOK_LINES = 1000
LOOK_ROWS = 20


@dataclass(frozen=True)
class Lines:
    """The first lines of a file: their numbers start at `first`, their bytes at `offset`."""

    name: str
    lines: list[bytes]
    offset: int
    first: int

    @property
    def place(self) -> str:
        """Where they begin, for messages."""
        return f"{self.name}:{self.first}"

    def after(self, count: int, head: bytes) -> tuple[int, int]:
        """The offset and the number of the line `count` lines on."""
        at = self.offset
        for _ in range(count):
            newline = head.find(b"\n", at)
            at = len(head) if newline < 0 else newline + 1
        return at, self.first + count


def first_lines(source: Source, skip_blank: bool) -> Lines:
    """The first lines without their ends, after a byte-order mark and, for tables, blank lines."""
    head = source.head()
    offset, first = (len(BOM) if head.startswith(BOM) else 0), 1
    if skip_blank:
        while found := re.compile(rb"[ \t]*\r?\n").match(head, offset):
            offset, first = found.end(), first + 1
    lines = head[offset:].split(b"\n", _LOOK_LINES)
    cut_off = len(lines) > _LOOK_LINES or len(head) >= HEAD_BYTES
    if len(lines) > 1 and (cut_off or not lines[-1]):
        lines.pop()
    return Lines(source.name, [line.removesuffix(b"\r") for line in lines], offset, first)


def pick_delimiter(lines: Sequence[bytes]) -> str:
    """The separator that all the first lines have alike, else the one the first has most of."""
    some = [line for line in lines[:LOOK_ROWS] if line.strip()]
    if not some:
        return ","

    def score(separator: str) -> tuple[bool, int]:
        counts = [line.count(separator.encode()) for line in some]
        return len(set(counts)) == 1 and counts[0] > 0, counts[0]

    best = max(_SEPARATORS, key=score)
    if score(best)[1]:
        return best
    return BLANKS if len(some[0].split()) > 1 else ","


def detect_format(source: Source | Path, columns: ColumnNames) -> str:
    """The format of a file, by its extension, else by its first lines."""
    source = source if isinstance(source, Source) else Source(source)
    name = Path(source.format_name)
    by_suffix = "movielens" if name.name == "u.data" else _EXTENSIONS.get(name.suffix.lower())
    if by_suffix:
        return by_suffix
    if source.head().startswith(b"PAR1"):
        return "parquet"
    looked = first_lines(source, skip_blank=True)
    first = looked.lines[0]
    if b"\0" in first:
        return "text"
    text = first.decode("utf-8", "replace")
    if any(_TYPED.match(field) for field in text.split("\t")):
        return "inter"
    if columns.hard().given() or SEPARATOR_LINE.fullmatch(first):
        return "csv"
    delimiter = pick_delimiter(looked.lines)
    fields = [field.strip(' \t"') for field in text.split(None if delimiter == " " else delimiter)]
    if columns.user in fields or columns.item in fields:
        return "csv"
    if match_any(fields, USER_NAMES) >= 0 and match_any(fields, ITEM_NAMES) >= 0:
        return "csv"
    one_token = len(text.split()) == 1 and len(fields) > 1
    return "csv" if one_token or _is_blank_table(looked.lines) else "text"


def _is_blank_table(lines: Sequence[bytes]) -> bool:
    """Rows of one width in which a user comes again, which one line per user never has."""
    rows = [line.split() for line in lines]
    rows = [row for row in rows if row]
    if len(rows) < 2 or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return False
    return len({row[0] for row in rows}) < len(rows)
