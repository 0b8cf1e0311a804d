"""Tables that are already in memory: a dict of arrays, pandas, polars, pyarrow, or a parquet file.

Nothing is imported from those libraries; whatever has named columns will do. Ids keep their type:
integers stay integers, text stays text.
"""

import datetime
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import (
    CLOCK,
    DATE,
    EPOCH,
    NUMBER,
    OTHER,
    ColumnNames,
    Picked,
    epoch_unit,
    is_number,
    pick_columns,
    spelling,
)
from .fields import parse_moment
from .ids import as_objects
from .problems import Problem
from .table import Table
from .times import FORMS, NANOSECONDS, is_date

_MAX_SHOWN = 5
_CONVERT = (
    f"\n{FORMS} Convert them first (pandas.to_datetime with the format they have), name another "
    "column as the times (time_col), or keep the order of the rows (ignore_times)."
)
_LOOK = 20
_UNIX = datetime.datetime(1970, 1, 1)
_UTC_UNIX = _UNIX.replace(tzinfo=datetime.UTC)
_DAY = 86400 * NANOSECONDS
_DATE_TYPES = ("datetime", "timestamp", "date")
_SPAN_TYPES = ("timedelta", "duration")


@dataclass
class FrameRows:
    """The rows of a frame, which column plays which part, and what to know about them."""

    table: Table
    used: dict[str, str]
    in_words: bool = False
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _labels(frame: Any) -> list[Any]:
    """What the columns of a frame-like object are called by, in order.

    Raises:
        InputError: the object has no columns.
    """
    for attribute in ("column_names", "columns"):
        names = getattr(frame, attribute, None)
        if names is not None and not callable(names) and not isinstance(names, str):
            return list(names)
    if isinstance(frame, Mapping):
        return list(frame)
    if isinstance(frame, np.ndarray) and frame.dtype.names:
        return list(frame.dtype.names)
    hint = ""
    if isinstance(frame, str | os.PathLike):
        hint = "; Dataset.from_file reads files"
    elif isinstance(frame, list | tuple) and frame and isinstance(frame[0], Mapping):
        hint = "; pandas.DataFrame(records) makes one of records"
    raise InputError(
        f"a {type(frame).__name__} has no named columns, expected a dict of arrays, a pandas, "
        f"polars or pyarrow table, or a structured array{hint}"
    )


def _with_index(frame: Any) -> Any:
    """A pandas table whose index has names, with that index as columns."""
    names = getattr(getattr(frame, "index", None), "names", None)
    if not hasattr(frame, "iloc") or not hasattr(frame, "columns") or names is None:
        return frame
    named = any(name is not None and name not in frame.columns for name in names)
    return frame.reset_index() if named else frame


class _Frame:
    """A frame-like object: the names of its columns, and the columns by number."""

    def __init__(self, frame: Any) -> None:
        frame = _with_index(frame)
        self._frame = frame
        schema = getattr(frame, "collect_schema", None)
        self._lazy = callable(schema) and hasattr(frame, "collect")
        self._schema = schema() if self._lazy and callable(schema) else None
        self._names = list(self._schema.names()) if self._schema is not None else _labels(frame)
        self._head: Any = None
        self.names = [str(name) for name in self._names]

    def fetch(self, columns: Sequence[int]) -> None:
        """Compute a lazy frame, as far as these columns go."""
        if self._lazy:
            wanted = list(dict.fromkeys(self._names[column] for column in columns))
            self._frame, self._lazy = self._frame.select(wanted).collect(), False

    def column(self, number: int) -> Any:
        """A column as the frame has it."""
        by_position = getattr(self._frame, "iloc", None)
        return self._frame[self._names[number]] if by_position is None else by_position[:, number]

    def kind(self, number: int) -> str:
        """What a column holds, by the type and the first values."""
        if not self._lazy or self._schema is None:
            return _kind(self.column(number))
        name = self._names[number]
        if str(self._schema[name]).lower().startswith(_DATE_TYPES):
            return DATE
        if self._head is None:
            self._head = self._frame.head(_LOOK).collect()
        return _kind(self._head[name])


def _kind(column: Any) -> str:
    dtype = str(getattr(column, "dtype", getattr(column, "type", ""))).lower()
    if dtype.startswith(_DATE_TYPES):
        return DATE
    if dtype.startswith(_SPAN_TYPES):
        return NUMBER
    values = [value for value in _first_values(column) if value is not None]
    return _kind_of_values(values) if values else OTHER


def _first_values(column: Any) -> list[Any]:
    try:
        values = list(column[:_LOOK])
    except (TypeError, KeyError, IndexError):
        values = np.asarray(column.to_numpy()).tolist()[:_LOOK]
    return [value.as_py() if hasattr(value, "as_py") else value for value in values]


def _kind_of_values(values: list[Any]) -> str:
    first = values[0]
    if isinstance(first, datetime.date | np.datetime64) or (
        isinstance(first, str) and is_date(first)
    ):
        return DATE
    if isinstance(first, datetime.time):
        return CLOCK
    if isinstance(first, str) and not is_number(first):
        return spelling([value for value in values if isinstance(value, str)])
    numbers: list[float] = []
    for value in values:
        if isinstance(value, str):
            if not is_number(value):
                break
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number | Decimal):
            break
        numbers.append(float(value))
    if not numbers:
        return OTHER
    epochs = len(numbers) == len(values) and all(epoch_unit(value) for value in numbers)
    return EPOCH if epochs else NUMBER


def _missing(column: Any) -> NDArray[np.bool_] | None:
    """Which rows have no value, where the column knows."""
    for method in ("isna", "is_null"):
        ask = getattr(column, method, None)
        if callable(ask):
            answer = ask()
            to_numpy = getattr(answer, "to_numpy", None)
            return np.asarray(answer if to_numpy is None else to_numpy()).astype(np.bool_)
    return None


def _values(name: str, column: Any) -> NDArray[Any]:
    """A column as a numpy array; times with a zone become UTC."""
    missing = _missing(column)
    if missing is not None and missing.any():
        rows = np.flatnonzero(missing)
        shown = ", ".join(map(str, rows[:_MAX_SHOWN].tolist()))
        more = f" and {len(rows) - _MAX_SHOWN} more" if len(rows) > _MAX_SHOWN else ""
        raise InputError(
            f"column {name!r}, row {shown}{more}: no value (None, null or NaN); every row needs "
            "one: drop those rows"
        )
    dtype = getattr(column, "dtype", getattr(column, "type", None))
    if str(dtype).startswith("dictionary"):
        column = column.cast(column.type.value_type)
    convert = getattr(column, "to_numpy", None)
    if convert is not None and hasattr(column, "iloc") and getattr(dtype, "tz", None) is not None:
        return np.asarray(convert(dtype=f"datetime64[{getattr(dtype, 'unit', 'ns')}]"))
    try:
        values = np.asarray(column if convert is None else convert())
    except Exception as error:  # each library has errors of its own
        raise InputError(
            f"column {name!r} of type {dtype} cannot become an array ({error}); cast it to "
            "integers, text or times first"
        ) from None
    if values.ndim != 1:
        raise InputError(f"column {name!r} has {values.ndim} dimensions, expected 1")
    return values


def _refuse(
    name: str, bad: NDArray[np.bool_], values: NDArray[Any], expected: str, remedy: str = ""
) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        shown = [
            f"column {name!r}, row {row}: {str(repr(values[row]))[:80]}, expected {expected}"
            for row in rows[:_MAX_SHOWN].tolist()
        ]
        if len(rows) > len(shown):
            shown.append(f"... and {len(rows) - len(shown)} more ({len(rows)} bad rows in all)")
        raise InputError("\n".join(shown) + remedy)


def _code(values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes by first appearance, int32 [R], and the distinct values by code."""
    distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    code = np.empty(len(order), dtype=np.int32)
    code[order] = np.arange(len(order), dtype=np.int32)
    return code[inverse], distinct[order]


def _code_text(values: list[str]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    codes: dict[str, int] = {}
    coded = [codes.setdefault(value, len(codes)) for value in values]
    return np.array(coded, dtype=np.int32), as_objects(list(codes))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_)


def _code_ids(
    name: str, values: NDArray[Any], notes: list[str]
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes and external ids of a column of ids."""
    kind = values.dtype.kind
    if kind in "iu":
        big = values > np.uint64(2**63 - 1) if kind == "u" else np.zeros(len(values), np.bool_)
        _refuse(name, big, values, "an integer that fits 64 bits with its sign, or text")
        return _code(values.astype(np.int64, copy=False))
    if kind == "f":
        return _code(_whole_numbers(name, values, notes))
    if kind in "UT":
        values = values.astype(object)
    elif kind != "O":
        hint = "; decode the bytes first" if kind == "S" else ""
        raise InputError(
            f"column {name!r}, row 0: type {values.dtype}, expected ids as integers or text{hint}"
        )
    listed = [_plain_id(value) for value in values.tolist()]
    if listed and _is_integer(listed[0]):
        mixed = "an integer, as in row 0; where text is meant, make all of them text"
        _refuse(name, _bad(listed, _is_integer), values, mixed)
        try:
            return _code(np.array(listed, dtype=np.int64))
        except OverflowError:
            raise InputError(f"column {name!r} has an integer beyond 64 bits") from None
    hint = "an id (an integer or non-empty text)"
    if listed and isinstance(listed[0], bytes):
        hint += "; decode the bytes, or cast the column to a string"
    elif any(map(_is_integer, listed)):
        hint += ", all of one kind; make all of them text"
    _refuse(name, _bad(listed, _is_text), values, hint)
    codes, ids = _code_text(listed)
    for value in ids.tolist():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"column {name!r}: {value!r} is not valid text") from None
    return codes, ids


def _plain_id(value: Any) -> Any:
    """Decimals that hold integers as these (what databases export), UUIDs as their text."""
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def _whole_numbers(name: str, values: NDArray[Any], notes: list[str]) -> NDArray[np.int64]:
    """Floats that hold integers, as integers."""
    most = 2 ** (np.finfo(values.dtype).nmant + 1)  # above it two integers are one float
    wide = values.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(wide) & (wide == np.round(wide)) & (np.abs(wide) <= most)
    _refuse(name, ~whole, values, f"an id (an integer up to {most} as {values.dtype}, or text)")
    notes.append(
        f"column {name!r} holds floats ({values[0]!r} in row 0): they are read as integers"
    )
    return values.astype(np.int64)


def _bad(values: list[Any], good: Any) -> NDArray[np.bool_]:
    return np.fromiter((not good(value) for value in values), dtype=np.bool_, count=len(values))


def _nanoseconds(value: Any) -> int | None:
    """A Python time or date (or a library's subclass of one) as nanoseconds; None for others."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else int(value.astype("M8[ns]").astype(np.int64))
    if isinstance(value, datetime.datetime):
        try:
            since = value - (_UNIX if value.tzinfo is None else _UTC_UNIX)
        except (TypeError, ValueError, OverflowError):
            return None
        whole = (since.days * 86400 + since.seconds) * NANOSECONDS + since.microseconds * 1000
        return whole + int(getattr(value, "nanosecond", 0) or 0)
    if isinstance(value, datetime.date):
        return (value.toordinal() - _UNIX.toordinal()) * _DAY
    if isinstance(value, datetime.time):
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return seconds * NANOSECONDS + value.microsecond * 1000
    return None


def _from_dates(name: str, values: NDArray[Any]) -> tuple[NDArray[np.int64], bool]:
    """datetime64 of any unit as nanoseconds, or (False) as it is where those would not fit."""
    _refuse(name, np.isnat(values), values, "a time")
    years = values.astype("M8[Y]").astype(np.int64) + 1970
    if len(years) and (years.min() < 1678 or years.max() > 2261):
        return values.astype(np.int64), False
    return values.astype("M8[ns]").astype(np.int64), True


def _from_objects(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Python times, numbers, or texts that hold either, all of one kind."""
    listed = values.tolist()
    if listed and _nanoseconds(listed[0]) is not None:
        found = [_nanoseconds(value) for value in listed]
        _refuse(name, _bad(found, lambda v: v is not None), values, "a time, as in row 0")
        return np.array(found, dtype=np.int64)
    if listed and isinstance(listed[0], str):
        iso = not is_number(listed[0])
        parsed = [
            parse_moment(value.strip().encode("utf-8", "replace"), iso, 0, 0)
            if isinstance(value, str)
            else Problem(0, 0)
            for value in listed
        ]
        expected = "a time (ISO 8601)" if iso else "a number"
        bad = _bad(parsed, lambda v: not isinstance(v, Problem))
        _refuse(name, bad, values, expected, _CONVERT if iso else "")
        floats = any(isinstance(value, float) for value in parsed)
        return np.array(parsed, dtype=np.float64 if floats else np.int64)
    number = (int, float, np.integer, np.floating, Decimal)
    bad = _bad(listed, lambda v: isinstance(v, number) and not isinstance(v, bool))
    _refuse(name, bad, values, "a number or a time")
    plain = [float(value) if isinstance(value, Decimal) else value for value in listed]
    return np.array(plain)


def _numbers(name: str, values: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """A column of times or ratings, int64 or float64 and finite; whether it was times in words."""
    if values.dtype.kind == "M":
        return _from_dates(name, values)
    in_words = False
    if values.dtype.kind == "m":  # times since some beginning
        _refuse(name, np.isnat(values), values, "a time")
        values = values.astype(np.int64)
    if values.dtype.kind in "OUT":
        values = values.astype(object)
        first = values[0] if len(values) else 0
        in_words = _nanoseconds(first) is not None or (
            isinstance(first, str) and not is_number(first)
        )
        values = _from_objects(name, values)
    if values.dtype.kind not in "iuf":
        raise InputError(f"column {name!r} has type {values.dtype}, expected numbers or times")
    if values.dtype.kind == "f" or (values.dtype.kind == "u" and values.max(initial=0) >= 2**63):
        _refuse(name, ~np.isfinite(values), values, "a finite number")
        return values.astype(np.float64) + 0.0, in_words
    return values.astype(np.int64), in_words


def frame_table(
    frame: Any, columns: ColumnNames, need_rating: bool, place: str = "frame"
) -> FrameRows:
    """The rows of a frame-like object.

    Raises:
        InputError: a column is missing, has missing or bad values, or another length.
    """
    if columns.names is not None or columns.header != "auto":
        raise InputError(f"{place}: --columns and --header are for text files: columns have names")
    known = _Frame(frame)
    picked = pick_columns(place, known.names, columns, need_rating, known.kind)
    parts = picked.parts()
    known.fetch(list(parts.values()))
    used = {part: known.names[number] for part, number in parts.items()}
    columns_of = {part: known.column(number) for part, number in parts.items()}
    arrays = {part: _values(used[part], column) for part, column in columns_of.items()}
    rows = len(arrays["user"])
    for part, array in arrays.items():
        if len(array) != rows:
            raise InputError(
                f"{place}: column {used[part]!r} has {len(array)} rows and column "
                f"{used['user']!r} has {rows}"
            )
    if not rows:
        raise InputError(f"{place}: no rows, expected interactions")
    return frame_rows(arrays, used, picked)


def code_ids(name: str, column: Any) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes by first appearance, int32 [R], and the external ids of a column of ids.

    Raises:
        InputError: a value that is none; its row is named.
    """
    return _code_ids(name, _values(name, column), [])


def frame_rows(columns: Mapping[str, Any], used: dict[str, str], picked: Picked) -> FrameRows:
    """The rows of columns by part.

    Args:
        columns: "user", "item" and others, each as its library has it.
        used: what they are called.
        picked: what is to be said about them.

    Raises:
        InputError: missing or bad values.
    """
    arrays = {part: _values(used[part], column) for part, column in columns.items()}
    notes = list(picked.notes)
    users, user_ids = _code_ids(used["user"], arrays["user"], notes)
    items, item_ids = _code_ids(used["item"], arrays["item"], notes)
    table, in_words = Table(users, items, user_ids, item_ids), False
    if "time" in used:
        table.times, in_words = _numbers(used["time"], arrays["time"])
    if "then" in used:
        table.then, _ = _numbers(used["then"], arrays["then"])
    if "rating" in used:
        table.ratings = _numbers(used["rating"], arrays["rating"])[0].astype(np.float64)
    return FrameRows(table, used, in_words, notes, picked.warnings)


def read_parquet(
    path: Path, columns: ColumnNames, need_rating: bool, empty_is_fine: bool = False
) -> FrameRows:
    """The rows of a parquet file; only the columns that are used are read.

    Raises:
        InputError: pyarrow is not installed, the file is no parquet file or a damaged one, or
            lacks a column.
    """
    with open_parquet(path) as file:
        picked, used = parquet_columns(file, path, columns, need_rating)
        table = file.read(list(used.values()))
        table.validate(full=True)
        if not table.num_rows and not empty_is_fine:
            raise InputError(f"{path}: no rows, expected interactions")
        return frame_rows({part: table.column(n) for part, n in used.items()}, used, picked)


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A pyarrow `ParquetFile`; what is wrong with it becomes one error.

    Raises:
        InputError: pyarrow is not installed, or it is no parquet file or a damaged one.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError(
            f'{path}: parquet needs pyarrow: pip install pyarrow (or "mclrec_fast[parquet]")'
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except Exception as error:  # damaged files raise errors of many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: not a readable parquet file ({reason}); write it or fetch it again"
        ) from None


def parquet_columns(
    file: Any, path: Path, columns: ColumnNames, need_rating: bool
) -> tuple[Picked, dict[str, str]]:
    """Which columns of an open parquet file play which part: by number, and by name.

    Raises:
        InputError: one is missing.
    """
    schema = file.schema_arrow

    def kind(number: int) -> str:
        if str(schema.field(number).type).startswith(_DATE_TYPES):
            return DATE
        batch = next(file.iter_batches(_LOOK, columns=[schema.names[number]]), None)
        return OTHER if batch is None else _kind(batch.column(0))

    picked = pick_columns(str(path), schema.names, columns, need_rating, kind)
    return picked, {part: schema.names[number] for part, number in picked.parts().items()}
