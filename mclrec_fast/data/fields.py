"""The fields of one line: the rules of separators, quotes and numbers, in plain Python.

This is the definition; csrc/reader.cpp repeats it. Blanks (space, tab) around a field are dropped.
A field that starts with a double quote ends with one ('""' inside stands for '"'). The separator is
one or two bytes; a space stands for any run of blanks.
"""

import math
import re

from . import problems
from .problems import MAX_DETAIL_BYTES, MAX_ID_BYTES, Problem
from .times import OutOfRange, parse_time

_BLANKS = b" \t"
_QUOTE = ord('"')
_INTEGER = re.compile(rb"[+-]?[0-9]+")
_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_CANONICAL = re.compile(rb"0|-?[1-9][0-9]{0,18}")
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def is_canonical(token: bytes) -> bool:
    """Whether an id is an int64 written the one way that maps back to the same text."""
    if not _CANONICAL.fullmatch(token):
        return False
    return len(token) < 19 or INT64_MIN <= int(token) <= INT64_MAX


def check_line(line: bytes, number: int) -> Problem | None:
    """NUL bytes and carriage returns inside a line (its end has been taken off)."""
    if b"\0" in line:
        return Problem(number, problems.NUL_BYTE)
    if b"\r" in line:
        return Problem(number, problems.CARRIAGE_RETURN)
    return None


def _quoted(line: bytes, start: int, number: int) -> tuple[bytes, int] | Problem:
    """The quoted field whose text starts at `start`, and where the rest of the line starts."""
    text = b""
    while True:
        end = line.find(b'"', start)
        if end < 0:
            return Problem(number, problems.QUOTE_NOT_CLOSED)
        text += line[start:end]
        if line[end + 1 : end + 2] != b'"':
            return text, end + 1
        text += b'"'
        start = end + 2


def _split_at_blanks(line: bytes, quotes: bool, number: int) -> list[bytes] | Problem:
    if not quotes or b'"' not in line:
        return [field for field in line.replace(b"\t", b" ").split(b" ") if field]
    fields: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _BLANKS:
            at += 1
        if at >= len(line):
            return fields
        if line[at] == _QUOTE:
            quoted = _quoted(line, at + 1, number)
            if isinstance(quoted, Problem):
                return quoted
            field, at = quoted
            if at < len(line) and line[at] not in _BLANKS:
                tail = line[at : at + MAX_DETAIL_BYTES]
                return Problem(number, problems.QUOTE_TAIL, detail=tail)
        else:
            start = at
            while at < len(line) and line[at] not in _BLANKS:
                at += 1
            field = line[start:at]
        fields.append(field)


def split_line(line: bytes, delimiter: bytes, quotes: bool, number: int) -> list[bytes] | Problem:
    """The fields of a line of a table."""
    if delimiter == b" ":
        return _split_at_blanks(line, quotes, number)
    if not quotes or b'"' not in line:
        return [field.strip(_BLANKS) for field in line.split(delimiter)]
    blanks = _BLANKS.replace(delimiter, b"")
    fields: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in blanks:
            at += 1
        if at < len(line) and line[at] == _QUOTE:
            quoted = _quoted(line, at + 1, number)
            if isinstance(quoted, Problem):
                return quoted
            field, at = quoted
            while at < len(line) and line[at] in blanks:
                at += 1
            if at < len(line) and line[at : at + len(delimiter)] != delimiter:
                tail = line[at : at + MAX_DETAIL_BYTES]
                return Problem(number, problems.QUOTE_TAIL, detail=tail)
        else:
            end = line.find(delimiter, at)
            end = len(line) if end < 0 else end
            field, at = line[at:end].strip(_BLANKS), end
        fields.append(field)
        if at >= len(line):
            return fields
        at += len(delimiter)


def check_id(token: bytes, field: int, number: int) -> Problem | None:
    """Whether a token can be an id: not empty, not huge, UTF-8."""
    if not token:
        return Problem(number, problems.EMPTY, field)
    if len(token) > MAX_ID_BYTES:
        return Problem(number, problems.TOO_LONG, field, token[:MAX_DETAIL_BYTES], len(token))
    if not token.isascii():
        try:
            token.decode("utf-8")
        except UnicodeDecodeError:
            return Problem(number, problems.NOT_UTF8, field, token[:MAX_DETAIL_BYTES])
    return None


def parse_number(token: bytes, field: int, number: int) -> int | float | Problem:
    """A time or rating: an int where it is written as one and fits int64, else a float."""
    if not token:
        return Problem(number, problems.EMPTY, field)
    detail = token[:MAX_DETAIL_BYTES]
    if len(token) > MAX_ID_BYTES:
        return Problem(number, problems.NOT_A_NUMBER, field, detail)
    if _INTEGER.fullmatch(token):
        integer = int(token)
        if INT64_MIN <= integer <= INT64_MAX:
            return integer
    elif _NOT_FINITE.fullmatch(token):
        return Problem(number, problems.NOT_FINITE, field, detail)
    elif not _FLOAT.fullmatch(token):
        return Problem(number, problems.NOT_A_NUMBER, field, detail)
    value = float(token)
    if not math.isfinite(value):
        return Problem(number, problems.NOT_FINITE, field, detail)
    return value + 0.0  # -0.0 becomes 0.0


def parse_moment(token: bytes, iso: bool, field: int, number: int) -> int | float | Problem:
    """A time, or what breaks its ties: a number, or ISO 8601 as an integer."""
    if not iso:
        return parse_number(token, field, number)
    if not token:
        return Problem(number, problems.EMPTY, field)
    try:
        nanoseconds = parse_time(token)
    except OutOfRange:
        return Problem(number, problems.TIME_OUT_OF_RANGE, field, token[:MAX_DETAIL_BYTES])
    if nanoseconds is None:
        return Problem(number, problems.NOT_A_TIME, field, token[:MAX_DETAIL_BYTES])
    return nanoseconds
