"""Tables that are already in memory: a dict of arrays, pandas, polars, pyarrow, or a parquet file.

Nothing is imported from those libraries; whatever has named columns will do. Ids keep their type:
integers stay integers, text stays text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .ids import as_objects
from .layout import ColumnNames, pick_columns
from .table import Table

_MAX_SHOWN = 5


def column_names(frame: Any) -> list[str]:
    """The column names of a frame-like object, in order.

    Raises:
        InputError: the object has no columns.
    """
    for attribute in ("column_names", "columns"):
        names = getattr(frame, attribute, None)
        if names is not None and not callable(names):
            names = list(names)
            if all(isinstance(name, str) for name in names):
                return names
    if isinstance(frame, Mapping):
        return [str(name) for name in frame]
    if isinstance(frame, np.ndarray) and frame.dtype.names:
        return list(frame.dtype.names)
    raise InputError(
        f"a {type(frame).__name__} has no named columns, expected a dict of arrays, a pandas, "
        "polars or pyarrow table, or a structured array"
    )


def _column(frame: Any, name: str) -> NDArray[Any]:
    column = frame[name]
    convert = getattr(column, "to_numpy", None)
    values = np.asarray(column if convert is None else convert())
    if values.ndim != 1:
        raise InputError(f"column {name!r} has {values.ndim} dimensions, expected 1")
    return values


def _refuse(name: str, bad: NDArray[np.bool_], values: NDArray[Any], expected: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        shown = [
            f"column {name!r}, row {row}: {values[row]!r}, expected {expected}"
            for row in rows[:_MAX_SHOWN].tolist()
        ]
        if len(rows) > len(shown):
            shown.append(f"... and {len(rows) - len(shown)} more ({len(rows)} bad rows in all)")
        raise InputError("\n".join(shown))


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


def _code_ids(name: str, values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes and external ids of a column of ids."""
    kind = values.dtype.kind
    if kind in "iu":
        big = values > np.uint64(2**63 - 1) if kind == "u" else np.zeros(len(values), np.bool_)
        _refuse(name, big, values, "an integer that fits 64 bits with its sign, or text")
        return _code(values.astype(np.int64, copy=False))
    if kind in "UT":
        values = values.astype(object)
    elif kind != "O":
        raise InputError(
            f"column {name!r} has type {values.dtype}, expected ids as integers or text"
        )
    listed = values.tolist()
    if listed and _is_integer(listed[0]):
        _refuse(name, _bad(listed, _is_integer), values, "an integer, as in row 0")
        try:
            return _code(np.array(listed, dtype=np.int64))
        except OverflowError:
            raise InputError(f"column {name!r} has an integer beyond 64 bits") from None
    _refuse(name, _bad(listed, _is_text), values, "an id (an integer or non-empty text)")
    codes, ids = _code_text(listed)
    for value in ids.tolist():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"column {name!r}: {value!r} is not valid text") from None
    return codes, ids


def _bad(values: list[Any], good: Any) -> NDArray[np.bool_]:
    return np.fromiter((not good(value) for value in values), dtype=np.bool_, count=len(values))


def _numbers(name: str, values: NDArray[Any]) -> NDArray[np.int64] | NDArray[np.float64]:
    """A column of times or ratings: int64, or float64 and finite."""
    if values.dtype.kind == "M":
        _refuse(name, np.isnat(values), values, "a time")
        return values.astype(np.int64)
    if values.dtype.kind == "O":
        number = (int, float, np.integer, np.floating)
        bad = _bad(values.tolist(), lambda v: isinstance(v, number) and not isinstance(v, bool))
        _refuse(name, bad, values, "a number")
        values = np.array(values.tolist())
    if values.dtype.kind not in "iuf":
        raise InputError(f"column {name!r} has type {values.dtype}, expected numbers")
    if values.dtype.kind == "f" or (values.dtype.kind == "u" and values.max(initial=0) >= 2**63):
        _refuse(name, ~np.isfinite(values), values, "a finite number")
        return values.astype(np.float64) + 0.0
    return values.astype(np.int64)


def frame_table(
    frame: Any, columns: ColumnNames, need_rating: bool, place: str = "frame"
) -> tuple[Table, dict[str, str]]:
    """The table of a frame-like object, and which column plays which part.

    Raises:
        InputError: a column is missing, has missing or bad values, or another length.
    """
    names = column_names(frame)
    user, item, time, rating = pick_columns(place, names, columns, need_rating)
    parts = {"user": user, "item": item, "time": time, "rating": rating}
    used = {part: names[column] for part, column in parts.items() if column >= 0}
    arrays = {part: _column(frame, name) for part, name in used.items()}
    rows = len(arrays["user"])
    for part, array in arrays.items():
        if len(array) != rows:
            raise InputError(
                f"{place}: column {used[part]!r} has {len(array)} rows and column "
                f"{used['user']!r} has {rows}"
            )
    if not rows:
        raise InputError(f"{place}: no rows, expected interactions")
    users, user_ids = _code_ids(used["user"], arrays["user"])
    items, item_ids = _code_ids(used["item"], arrays["item"])
    times = _numbers(used["time"], arrays["time"]) if time >= 0 else None
    ratings = None
    if rating >= 0:
        ratings = _numbers(used["rating"], arrays["rating"]).astype(np.float64)
    return Table(users, items, user_ids, item_ids, times, ratings), used


def read_parquet(path: Path, columns: ColumnNames, need_rating: bool) -> Any:
    """The columns of a parquet file that are used (a pyarrow table).

    Raises:
        InputError: pyarrow is not installed, the file is no parquet file, or lacks a column.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError(
            f'{path}: parquet needs pyarrow: pip install pyarrow (or "mclrec_fast[parquet]")'
        ) from None
    try:
        names = parquet.read_schema(path).names
        picked = pick_columns(str(path), names, columns, need_rating)
        return parquet.read_table(path, columns=[names[column] for column in picked if column >= 0])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable parquet file ({error})") from None
