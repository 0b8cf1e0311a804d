"""What can be wrong with a line of a log, as small records. Neither reading nor wording is here.

Both readers (the C++ one and its numpy twin) report these; messages.py puts them into words.
"""

from typing import NamedTuple

# The codes are shared with csrc/reader.cpp.
NUL_BYTE = 1
CARRIAGE_RETURN = 2
QUOTE_NOT_CLOSED = 3
QUOTE_TAIL = 4
FIELD_COUNT = 5
EMPTY = 6
TOO_LONG = 7
NOT_UTF8 = 8
NOT_A_NUMBER = 9
NOT_FINITE = 10
NO_ITEMS = 11
REPEATED_USER = 12
NOT_A_TIME = 13
TIME_OUT_OF_RANGE = 14

USER, ITEM, TIME, RATING, THEN = range(5)

MAX_ID_BYTES = 1024
MAX_DETAIL_BYTES = 48
MAX_SHOWN = 5  # problems a reader keeps; the rest are counted


class Problem(NamedTuple):
    """One bad line: its number, a code from this file, the field, the bytes found, a number."""

    line: int
    code: int
    field: int = 0
    detail: bytes = b""
    number: int = 0
