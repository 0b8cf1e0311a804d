"""How a log file is laid out: its format, separator, header and the columns that matter.

Only the first line is read here. The readers get a `Layout` and never guess.
"""

import difflib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .fields import split_line

FORMATS = ("auto", "text", "inter", "csv", "tsv", "movielens", "parquet")

# Column names tried, in this order and whatever their case, when none is given.
USER_NAMES = ("user_id", "user", "userid", "uid", "customer_id", "reviewer_id", "reviewerid")
ITEM_NAMES = (
    "item_id", "item", "itemid", "iid", "movie_id", "movieid", "product_id", "parent_asin", "asin",
)  # fmt: skip
TIME_NAMES = ("timestamp", "time", "ts", "unixreviewtime", "unix_time")
RATING_NAMES = ("rating", "ratings", "score", "stars", "overall")

_TYPES = ("token", "token_seq", "float", "float_seq")
_TYPED = re.compile(r"^[^\s:]+:(?:token|float)(?:_seq)?$")
_EXTENSIONS = {
    ".inter": "inter",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_BOM = b"\xef\xbb\xbf"
_MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class Layout:
    """Where the fields of a log are. Column numbers count from 0; -1 means that there is none."""

    format: str
    kind: str  # "text" (one line per user) or "table" (one row per interaction)
    delimiter: str = " "
    quotes: bool = False
    names: tuple[str, ...] = ()
    user: int = 0
    item: int = 1
    time: int = -1
    rating: int = -1
    offset: int = 0  # bytes before the first line of data
    first_line: int = 1  # its line number

    @property
    def columns(self) -> int:
        """Fields in a row of a table."""
        return len(self.names)

    def used(self) -> dict[str, str]:
        """Which column plays which part, for the data card."""
        if self.kind == "text":
            return {}
        parts = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        return {part: self.names[column] for part, column in parts.items() if column >= 0}


@dataclass(frozen=True)
class ColumnNames:
    """The columns the user named; None lets the format decide. `use_time` False wants no times."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    use_time: bool = True

    def given(self) -> dict[str, str]:
        """The named ones by option."""
        named = {
            "--user-col": self.user,
            "--item-col": self.item,
            "--time-col": self.time,
            "--rating-col": self.rating,
        }
        return {option: name for option, name in named.items() if name is not None}


def open_check(path: Path) -> int:
    """The size of a readable, regular, non-empty file.

    Raises:
        InputError: the file is missing, a folder, unreadable or empty.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_near_miss(path)}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; write it to disk first")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty, expected interactions")
    return status.st_size


def _near_miss(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _first_line(path: Path) -> tuple[bytes, int, int]:
    """The first line without its end, the bytes up to the next one, and the bytes of a BOM."""
    with path.open("rb") as file:
        head = file.readline(_MAX_HEADER)
    skip = len(_BOM) if head.startswith(_BOM) else 0
    for magic, what in (
        (b"\x1f\x8b", "gzip-compressed"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\xff\xfe", "UTF-16 text"),
        (b"\xfe\xff", "UTF-16 text"),
    ):
        if head.startswith(magic):
            raise InputError(f"{path}: the file is {what}, expected UTF-8 text; convert it first")
    return head[skip:].removesuffix(b"\n").removesuffix(b"\r"), len(head), skip


def _header_text(path: Path, line: bytes) -> str:
    if b"\0" in line:
        raise InputError(f"{path}:1: a NUL byte in the header, expected UTF-8 text")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}:1: the header is not valid UTF-8, expected UTF-8 text") from None


def _header_fields(path: Path, text: str, delimiter: str) -> list[str]:
    """The column names in a header; quotes as in the rows.

    Raises:
        InputError: a quote is not closed, or text follows one.
    """
    fields = split_line(text.encode("utf-8"), delimiter.encode(), True, 1)
    if not isinstance(fields, list):
        raise InputError(f"{path}:1: a stray quote in the header, expected column names")
    return [field.decode("utf-8") for field in fields]


def _pick_delimiter(text: str) -> str:
    """The separator that occurs most in a header; a comma when none does."""
    return max((",", "\t", ";", "|"), key=text.count)


def _match_any(names: Sequence[str], wanted: Sequence[str]) -> int:
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in wanted if name in lowered), -1)


def detect_format(path: Path, columns: ColumnNames) -> str:
    """The format of a file, by its extension, else by its first line."""
    by_name = "movielens" if path.name == "u.data" else _EXTENSIONS.get(path.suffix.lower())
    if by_name:
        return by_name
    line, _, _ = _first_line(path)
    if line.startswith(b"PAR1"):
        return "parquet"
    if b"\0" in line:
        return "text"
    text = line.decode("utf-8", "replace")
    if any(_TYPED.match(field) for field in text.split("\t")):
        return "inter"
    if columns.given():
        return "csv"
    fields = text.split(_pick_delimiter(text))
    fields = [field.strip(' \t"') for field in fields]
    if _match_any(fields, USER_NAMES) >= 0 and _match_any(fields, ITEM_NAMES) >= 0:
        return "csv"
    return "text"


def find_column(
    place: str,
    names: Sequence[str],
    given: str | None,
    usual: Sequence[str],
    option: str,
    what: str,
) -> int:
    """The number of a column, by the name given or else by the usual names.

    Raises:
        InputError: there is no such column; the text lists the columns and the nearest one.
    """
    if given is not None:
        if given in names:
            return list(names).index(given)
        close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"{place}: no column {given!r} ({option}), found {_listed(names)}{hint}")
    column = _match_any(names, usual)
    if column < 0:
        close = [m for n in usual for m in difflib.get_close_matches(n, names, n=1, cutoff=0.75)]
        hint = f"; did you mean {option} {close[0]}?" if close else f"; name it with {option}"
        raise InputError(
            f"{place}: no column for {what} (such as {usual[0]!r}), found {_listed(names)}{hint}"
        )
    return column


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def check_distinct(place: str, names: Sequence[str]) -> None:
    """Refuse a header that names a column twice."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(f"{place}: column {name!r} appears twice, expected distinct names")


def pick_columns(
    place: str, names: Sequence[str], columns: ColumnNames, need_rating: bool
) -> tuple[int, int, int, int]:
    """The columns of user, item, time and rating in a table; -1 for a time or rating not used."""
    check_distinct(place, names)
    user = find_column(place, names, columns.user, USER_NAMES, "--user-col", "the user ids")
    item = find_column(place, names, columns.item, ITEM_NAMES, "--item-col", "the item ids")
    time = -1
    if columns.time is not None:
        time = find_column(place, names, columns.time, TIME_NAMES, "--time-col", "the times")
    elif columns.use_time:
        time = _match_any(names, TIME_NAMES)
    rating = -1
    if need_rating or columns.rating is not None:
        rating = find_column(
            place, names, columns.rating, RATING_NAMES, "--rating-col", "the ratings"
        )
    used = [column for column in (user, item, time, rating) if column >= 0]
    if len(set(used)) != len(used):
        twice = next(names[column] for column in used if used.count(column) > 1)
        raise InputError(
            f"{place}: column {twice!r} is given two parts, expected different columns"
        )
    return user, item, time, rating


def _inter_names(path: Path, text: str) -> tuple[list[str], dict[str, str]]:
    names: list[str] = []
    types: dict[str, str] = {}
    for field in text.split("\t"):
        name, colon, kind = field.strip().rpartition(":")
        if not colon or kind not in _TYPES:
            raise InputError(
                f"{path}:1: {field[:60]!r} in the header, expected tab-separated 'name:type' "
                f"with a type of {', '.join(_TYPES)}"
            )
        names.append(name)
        types[name] = kind
    return names, types


def _inter_layout(path: Path, columns: ColumnNames, need_rating: bool) -> Layout:
    line, size, _ = _first_line(path)
    names, types = _inter_names(path, _header_text(path, line))
    user, item, time, rating = pick_columns(f"{path}:1", names, columns, need_rating)
    for column, kind in ((user, "token"), (item, "token"), (time, "float"), (rating, "float")):
        if column >= 0 and types[names[column]] != kind:
            raise InputError(
                f"{path}:1: column {names[column]!r} is declared {types[names[column]]}, "
                f"expected {kind}"
            )
    return Layout("inter", "table", "\t", False, tuple(names), user, item, time, rating, size, 2)


def _csv_layout(path: Path, format: str, columns: ColumnNames, need_rating: bool) -> Layout:
    line, size, _ = _first_line(path)
    text = _header_text(path, line)
    delimiter = "\t" if format == "tsv" else _pick_delimiter(text)
    names = _header_fields(path, text, delimiter)
    user, item, time, rating = pick_columns(f"{path}:1", names, columns, need_rating)
    return Layout(format, "table", delimiter, True, tuple(names), user, item, time, rating, size, 2)


def find_layout(path: Path, format: str, columns: ColumnNames, need_rating: bool) -> Layout:
    """The layout of a text file (everything but parquet).

    Args:
        path: a file that `open_check` has accepted.
        format: one of `FORMATS`; "auto" looks at the extension and the first line.
        columns: the columns the user named.
        need_rating: ratings must be read.

    Raises:
        InputError: the header lacks a column, has one twice, or does not fit the format.
    """
    if format not in FORMATS:
        close = difflib.get_close_matches(format, FORMATS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"unknown format {format!r}, expected one of {', '.join(FORMATS)}{hint}")
    format = detect_format(path, columns) if format == "auto" else format
    if format == "inter":
        return _inter_layout(path, columns, need_rating)
    if format in ("csv", "tsv"):
        return _csv_layout(path, format, columns, need_rating)
    for option in columns.given():
        raise InputError(f"{option} means nothing for {path}: the {format} format has no header")
    _, _, skip = _first_line(path)
    if format == "movielens":
        names = ("user_id", "item_id", "rating", "timestamp")
        time, rating = 3 if columns.use_time else -1, 2 if need_rating else -1
        return Layout("movielens", "table", "\t", False, names, 0, 1, time, rating, skip, 1)
    if need_rating:
        raise InputError(f"{path}: --min-rating needs ratings, and the text format has none")
    return Layout("text", "text", offset=skip)
