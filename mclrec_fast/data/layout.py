"""How a log file is laid out: its format, separator, header and the columns that matter.

Only the first lines are looked at. The readers get a `Layout` and never guess.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from ..errors import InputError
from .columns import (
    DATE,
    EPOCH,
    ITEM_NAMES,
    NO_RATINGS,
    NUMBER,
    OTHER,
    SPELLED,
    USER_NAMES,
    ColumnNames,
    Picked,
    epoch_unit,
    is_number,
    match_any,
    pick_columns,
    spelling,
)
from .fields import split_line
from .formats import (
    BLANKS,
    FORMATS,
    LOOK_ROWS,
    SEPARATOR_LINE,
    Lines,
    detect_format,
    first_lines,
    pick_delimiter,
)
from .kinds import refuse_other_text
from .source import Source
from .times import is_date

_TYPES = ("token", "token_seq", "float", "float_seq")
_LOOK_CELLS = 1 << 16
OTHER_ENCODING = (
    "If the text has another encoding, name it and convert the file, as in "
    "iconv -f LATIN1 -t UTF-8 FILE."
)


@dataclass(frozen=True)
class Layout:
    """Where the fields of a log are. Column numbers count from 0; -1 means that there is none."""

    format: str
    kind: str  # "text" (one line per user) or "table" (one row per interaction)
    delimiter: str = " "  # of a table: one or two bytes; a space stands for any run of blanks
    quotes: bool = False
    names: tuple[str, ...] = ()
    user: int = 0
    item: int = 1
    time: int = -1
    rating: int = -1
    offset: int = 0  # bytes before the first line of data
    first_line: int = 1  # its line number
    then: int = -1
    time_is_iso: bool = False  # else times are numbers
    then_is_iso: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def columns(self) -> int:
        """Fields in a row of a table."""
        return len(self.names)

    def used(self) -> dict[str, str]:
        """Which column plays which part, for the data card."""
        if self.kind == "text":
            return {}
        parts = {
            "user": self.user,
            "item": self.item,
            "time": self.time,
            "rating": self.rating,
            "then": self.then,
        }
        return {part: self.names[column] for part, column in parts.items() if column >= 0}


def _text_of(place: str, line: bytes) -> str:
    if b"\0" in line:
        if line.startswith(b"PAR1"):
            raise InputError(f"{place}: the file is parquet; --format parquet reads it")
        raise InputError(
            f"{place}: a NUL byte in the header, expected UTF-8 text; UTF-16 or UTF-32 without a "
            "mark at its beginning? As in iconv -f UTF-16LE -t UTF-8 FILE"
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(
            f"{place}: the header is not valid UTF-8, expected UTF-8 text. {OTHER_ENCODING}"
        ) from None


def _header_fields(place: str, text: str, delimiter: str, quotes: bool) -> list[str]:
    """The fields of the first line; quotes as in the rows.

    Raises:
        InputError: a quote is not closed, or text follows one.
    """
    fields = split_line(text.encode("utf-8"), delimiter.encode(), quotes, 1)
    if not isinstance(fields, list):
        raise InputError(f"{place}: a stray quote in the header, expected column names")
    return [field.decode("utf-8") for field in fields]


def _is_data(field: str) -> bool:
    return is_number(field) or is_date(field)


def _inter_names(path: str, text: str) -> tuple[list[str], dict[str, str]]:
    names: list[str] = []
    types: dict[str, str] = {}
    for field in text.split("\t"):
        name, colon, kind = field.strip().rpartition(":")
        if not colon or kind not in _TYPES:
            raise InputError(
                f"{path}: {field[:60]!r} in the header, expected tab-separated 'name:type' "
                f"with a type of {', '.join(_TYPES)}"
            )
        names.append(name)
        types[name] = kind
    return names, types


class _Rows:
    """The first rows of a table, taken apart, to see what its columns hold."""

    def __init__(self, lines: Sequence[bytes], width: int, delimiter: str, quotes: bool) -> None:
        self._rows: list[list[str]] = []
        most = min(LOOK_ROWS, max(1, _LOOK_CELLS // max(width, 1)))
        for line in lines:
            if len(self._rows) == most:
                break
            fields = split_line(line, delimiter.encode(), quotes, 1) if line.strip() else None
            if isinstance(fields, list) and len(fields) == width:
                self._rows.append([field.decode("utf-8", "replace") for field in fields])

    def __len__(self) -> int:
        """How many rows of the width looked for there are."""
        return len(self._rows)

    def values(self, column: int) -> list[str]:
        """What a column holds in these rows, empty fields left out."""
        return [row[column] for row in self._rows if row[column]]

    def kind(self, column: int) -> str:
        """What a column holds, by the first value; EPOCH if all of them could be."""
        values = self.values(column)
        if not values:
            return OTHER
        if is_date(values[0]):
            return DATE
        if not is_number(values[0]):
            return spelling(values)
        epochs = all(is_number(value) and epoch_unit(float(value)) for value in values)
        return EPOCH if epochs else NUMBER

    def is_iso(self, column: int) -> bool:
        """Whether a column of times is written in words, as far as its first value says."""
        if column < 0 or not self.values(column):
            return False
        value = self.values(column)[0]
        return is_date(value) or re.fullmatch(r"\d\d:\d\d.*", value) is not None


def _table(
    format: str,
    looked: Lines,
    head: bytes,
    skipped: int,
    names: Sequence[str],
    rows: _Rows,
    picked: Picked,
    delimiter: str,
    quotes: bool,
    notes: Sequence[str] = (),
) -> Layout:
    offset, first_line = looked.after(skipped, head)
    return Layout(
        format=format,
        kind="table",
        delimiter=delimiter,
        quotes=quotes,
        names=tuple(names),
        user=picked.user,
        item=picked.item,
        time=picked.time,
        rating=picked.rating,
        offset=offset,
        first_line=first_line,
        then=picked.then,
        time_is_iso=rows.is_iso(picked.time),
        then_is_iso=rows.is_iso(picked.then),
        notes=(*notes, *picked.notes),
        warnings=tuple(picked.warnings),
    )


def _inter_layout(source: Source, columns: ColumnNames, need_rating: bool) -> Layout:
    looked = first_lines(source, skip_blank=True)
    names, types = _inter_names(looked.place, _text_of(looked.place, looked.lines[0]))
    rows = _Rows(looked.lines[1:], len(names), "\t", False)
    picked = pick_columns(looked.place, names, columns, need_rating, rows.kind)
    wanted = {"user": ("token",), "item": ("token",), "rating": ("float",)}
    for part, column in picked.parts().items():
        kinds = wanted.get(part, ("float", "token"))
        if types[names[column]] not in kinds:
            raise InputError(
                f"{looked.place}: column {names[column]!r} is declared {types[names[column]]}, "
                f"expected {kinds[0]}"
            )
    return _table("inter", looked, source.head(), 1, names, rows, picked, "\t", False)


@dataclass(frozen=True)
class _Header:
    """The columns' names, and whether the first row gave them."""

    names: Sequence[str]
    in_file: bool
    notes: tuple[str, ...] = ()


def _shown(text: str) -> str:
    return repr(text[:80] + ("..." if len(text) > 80 else ""))


def _given_names(place: str, fields: list[str], columns: ColumnNames, text: str) -> _Header:
    """The names of --columns, for a file without a header or instead of the one it has."""
    names = columns.names or ()
    if len(names) != len(fields):
        raise InputError(
            f"{place}: --columns names {len(names)} columns, but the row {_shown(text)} has "
            f"{len(fields)}"
        )
    usual = match_any(fields, USER_NAMES) >= 0 or match_any(fields, ITEM_NAMES) >= 0
    if columns.header == "auto" and usual:
        raise InputError(
            f"{place}: --columns is for a file without a header, and the first row looks like one "
            f"({_shown(text)}): leave --columns out, or say --header yes to replace that row or "
            "--header no to read it as data"
        )
    return _Header(names, columns.header == "yes")


def _refuse_one_column(place: str, text: str) -> NoReturn:
    """Refuse a first row that nothing known parts; what may part it is named.

    Raises:
        InputError: always.
    """
    odd = re.search(r"[^\w\s\"'.-]", text)
    remedy = ""
    if odd is not None and odd[0].isascii():
        remedy = f"; pandas.read_csv(FILE, sep={odd[0]!r}) and Dataset.from_frame read it"
        if odd[0].isprintable():
            remedy = f"; a line sep={odd[0]} in front of it parts them by {odd[0]!r}"
    raise InputError(
        f"{place}: one column ({_shown(text)}), expected users and items parted by a comma, tab, "
        f"semicolon, bar, '::' or blanks{remedy}"
    )


def _usual_names(rows: _Rows, width: int, delimiter: str) -> _Header | None:
    """Names for the two kinds of tables that never have a header; None for any other table."""
    if width == 2 and delimiter == BLANKS:
        return _Header(
            ("user", "item"), False, ("no header: the two columns are read as user and item",)
        )
    if width != 4 or delimiter not in ("::", "\t", BLANKS):
        return None
    ratings = rows.values(2)
    small = all(is_number(value) and 0 <= float(value) <= 10 for value in ratings)
    if not small or rows.kind(3) != EPOCH:
        return None
    return _Header(
        ("user", "item", "rating", "timestamp"),
        False,
        ("no header: the columns are read as user, item, rating and time, MovieLens' order",),
    )


def _read_header(
    place: str, fields: list[str], columns: ColumnNames, rows: _Rows, text: str, delimiter: str
) -> _Header:
    """The names of the columns. A first row that looks like data is never taken for a header.

    Raises:
        InputError: the columns have no names and none were given.
    """
    header = match_any(fields, USER_NAMES) >= 0 or match_any(fields, ITEM_NAMES) >= 0
    if text.startswith("#") and len(rows) == 1:
        raise InputError(
            f"{place}: a comment in front of the table ({_shown(text)}): take it out of the file, "
            "as in tail -n +2 FILE"
        )
    if len(fields) == 1:
        _refuse_one_column(place, text)
    if "names" in columns.soft and columns.names is not None:
        if header or len(columns.names) != len(fields):
            columns = replace(columns, names=None, header="auto")
    if columns.names is not None:
        return _given_names(place, fields, columns, text)
    counted = [str(i + 1) for i in range(len(fields))]
    given = [name for name in (columns.user, columns.item) if name is not None]
    unnamed = None if given else _usual_names(rows, len(fields), delimiter)
    if columns.header == "no":
        return unnamed or _Header(counted, False)
    if columns.header == "yes":
        return _Header(fields, True)
    by_position = [name for name in given if name.isdecimal()]
    named = any(name in fields and not name.isdecimal() for name in given)
    usual = (columns.user is None and match_any(fields, USER_NAMES) >= 0) or (
        columns.item is None and match_any(fields, ITEM_NAMES) >= 0
    )
    if named or usual or not any(_is_data(field) for field in fields):
        return _Header(fields, True)
    whole = [field for field in fields if field]
    if unnamed is None and whole == [str(i) for i in range(len(whole))]:
        raise InputError(
            f"{place}: is the first row ({_shown(text)}) a header or data? Say --header yes or "
            "--header no"
        )
    if by_position:
        return _Header(counted, False)
    if unnamed is not None:
        return unnamed
    names = _example(rows, len(fields))
    listed = ",".join(names) if len(names) <= 12 else "user,item,..."
    raise InputError(
        f"{place}: no header? The first row looks like data ({_shown(text)}). Name its "
        f"{len(fields)} columns in their order, as in --columns {listed}, or count them from 1, as "
        f"in --user-col {names.index('user') + 1} --item-col {names.index('item') + 1}; "
        "--header yes if it is a header after all"
    )


def _example(rows: _Rows, width: int) -> list[str]:
    """What --columns might be for a table; right as it stands only by luck."""
    kinds = [rows.kind(i) for i in range(min(width, 12))]
    times = [kinds.index(kind) for kind in (DATE, EPOCH, SPELLED) if kind in kinds]
    times = times[:1] if width > 2 else []
    left = iter(["user", "item"])
    return ["time" if i in times else next(left, f"other{i + 1}") for i in range(width)]


def _csv_layout(source: Source, format: str, columns: ColumnNames, need_rating: bool) -> Layout:
    looked = first_lines(source, skip_blank=True)
    said = SEPARATOR_LINE.fullmatch(looked.lines[0]) if format == "csv" else None
    skipped = 0 if said is None else 1
    lines = looked.lines[skipped:] or [b""]
    place = f"{source.name}:{looked.first + skipped}"
    text = _text_of(place, lines[0])
    if said is not None:
        delimiter = said[1].decode("latin-1")
    else:
        delimiter = "\t" if format == "tsv" else pick_delimiter(lines)
    quotes = delimiter != "::"
    fields = _header_fields(place, text, delimiter, quotes)
    rows = _Rows(lines, len(fields), delimiter, quotes)
    header = _read_header(place, fields, columns, rows, text, delimiter)
    if header.in_file:
        rows = _Rows(lines[1:], len(fields), delimiter, quotes)
        skipped += 1
    picked = pick_columns(place, header.names, columns, need_rating, rows.kind)
    return _table(
        format,
        looked,
        source.head(),
        skipped,
        header.names,
        rows,
        picked,
        delimiter,
        quotes,
        header.notes,
    )


def _movielens_layout(source: Source, columns: ColumnNames, need_rating: bool) -> Layout:
    looked = first_lines(source, skip_blank=False)
    return Layout(
        "movielens",
        "table",
        "::" if b"::" in looked.lines[0] else "\t",
        False,
        ("user_id", "item_id", "rating", "timestamp"),
        0,
        1,
        3 if columns.use_time else -1,
        2 if need_rating else -1,
        looked.offset,
    )


def find_layout(
    source: Source | Path, format: str, columns: ColumnNames, need_rating: bool
) -> Layout:
    """The layout of a text file (everything but parquet).

    Args:
        source: the file, or its path.
        format: one of `FORMATS`; "auto" looks at the extension and the first lines.
        columns: the columns the user named.
        need_rating: ratings must be read.

    Raises:
        InputError: the header lacks a column, has one twice, or does not fit the format; there is
            no header and no names were given.
    """
    source = source if isinstance(source, Source) else Source(source)
    if format not in FORMATS:
        close = difflib.get_close_matches(format, FORMATS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"unknown format {format!r}, expected one of {', '.join(FORMATS)}{hint}")
    refuse_other_text(source.name, source.head())
    format = detect_format(source, columns) if format == "auto" else format
    if format == "inter":
        return _inter_layout(source, columns, need_rating)
    if format in ("csv", "tsv"):
        return _csv_layout(source, format, columns, need_rating)
    for option in columns.hard().given():
        raise InputError(
            f"{option} means nothing for {source.name}: the {format} format has no header"
        )
    if format == "movielens":
        return _movielens_layout(source, columns, need_rating)
    if need_rating and "rating" not in columns.soft:
        raise InputError(f"{source.name}: --min-rating needs ratings, and the text format has none")
    said = (NO_RATINGS,) if need_rating else ()
    return Layout("text", "text", offset=first_lines(source, False).offset, warnings=said)
