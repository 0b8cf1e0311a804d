"""Plain blocks of a table taken apart with numpy: where fields are, whole numbers, ISO times.

Each function gives None for a block that is not plain; fields.py then reads it line by line.
"""

import re

import numpy as np
from numpy.typing import NDArray

from .times import FIRST_YEAR, LAST_YEAR, NANOSECONDS

_NEWLINE, _MINUS, _ZERO = 10, 45, 48
# Digits as 0. The offset of a zone is not plain.
_TIME_SHAPE = re.compile(rb"0000-00-00(?:[Tt ]00:00:00([.,]0+)?(?:Z| UTC)?)?")


def find_fields(
    text: NDArray[np.uint8], separator: int, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Starts and ends of all fields, int64 [rows, columns]; None when a line is not plain."""
    separators = np.flatnonzero((text == separator) | (text == _NEWLINE))
    if len(separators) % columns:
        return None
    ends = separators.reshape(-1, columns)
    newlines = text[ends] == _NEWLINE
    if not newlines[:, -1].all() or newlines[:, :-1].any():
        return None
    starts = np.concatenate([[0], separators[:-1] + 1]).reshape(ends.shape)
    return starts, ends


def parse_integers(
    text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], canonical: bool
) -> NDArray[np.int64] | None:
    """Integers of at most 18 digits, int64 [rows]; None when a field is anything else."""
    negative = text[starts] == _MINUS
    at = starts + negative
    digits = ends - at
    if (digits < 1).any() or (digits > 18).any():
        return None
    if canonical and ((text[at] == _ZERO) & ((digits > 1) | negative)).any():
        return None
    values = np.zeros(len(starts), dtype=np.int64)
    for k in range(int(digits.max(initial=0))):
        inside = digits > k
        digit = text[np.minimum(at + k, len(text) - 1)] - np.uint8(_ZERO)
        if (digit[inside] > 9).any():
            return None
        values = np.where(inside, values * 10 + digit, values)
    return np.where(negative, -values, values)


def _civil_days(
    year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Days since 1970-01-01."""
    months = (year - 1970) * 12 + month - 1
    days: NDArray[np.int64] = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    return days + day - 1


def parse_times(
    text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Times of one shape as nanoseconds, int64 [rows]; None when a field is anything else."""
    size = int(ends[0] - starts[0])
    if size > 40 or (ends - starts != size).any():
        return None
    fields = text[starts[:, None] + np.arange(size)]  # [rows, size]
    digits = fields - np.uint8(_ZERO)
    is_digit = digits[0] <= 9
    shape = bytes(np.where(is_digit, np.uint8(_ZERO), fields[0]))
    found = _TIME_SHAPE.fullmatch(shape)
    if found is None or (digits[:, is_digit] > 9).any():
        return None
    if (fields[:, ~is_digit] != fields[0, ~is_digit]).any():
        return None

    def number(start: int, stop: int) -> NDArray[np.int64]:
        value = np.zeros(len(fields), dtype=np.int64)
        for column in range(start, stop):
            value = value * 10 + digits[:, column]
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    if (year < FIRST_YEAR).any() or (year > LAST_YEAR).any():
        return None
    if (month < 1).any() or (month > 12).any() or (day < 1).any():
        return None
    days = _civil_days(year, month, day)
    after = _civil_days(year + month // 12, month % 12 + 1, np.ones_like(day))
    if (days >= after).any():  # a day past the end of its month
        return None
    if size == 10:
        return days * (86400 * NANOSECONDS)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    if (hour > 23).any() or (minute > 59).any() or (second > 60).any():
        return None
    seconds = days * 86400 + (hour * 60 + minute) * 60 + second
    places = len(found[1] or b".") - 1
    counted = min(places, 9)
    fraction = number(20, 20 + counted) * 10 ** (9 - counted) if counted else 0
    return seconds * NANOSECONDS + fraction
