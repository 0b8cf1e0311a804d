"""The words for bad lines: `file:line: what was found, what was expected`.

Both readers report problems as the same records (problems.py), and this file alone turns them into
text, so their messages cannot differ.
"""

import re
from collections.abc import Sequence

from ..errors import InputError
from . import problems as codes
from .layout import OTHER_ENCODING, Layout
from .problems import MAX_DETAIL_BYTES, MAX_ID_BYTES, MAX_SHOWN, Problem
from .times import FIRST_YEAR, FORMS, LAST_YEAR

_BAD_TIMES = (codes.NOT_A_NUMBER, codes.EMPTY, codes.NOT_A_TIME, codes.TIME_OUT_OF_RANGE)


def quote(detail: bytes) -> str:
    """The bytes found, as text that is safe to print on one line."""
    shown = detail[:MAX_DETAIL_BYTES].decode("utf-8", "replace")
    text = repr(shown)
    return text[:-1] + "..." + text[-1] if len(detail) >= MAX_DETAIL_BYTES else text


def _field_name(problem: Problem, layout: Layout) -> str:
    column = (layout.user, layout.item, layout.time, layout.rating, layout.then)[problem.field]
    if layout.kind == "table" and column >= 0 and layout.names:
        return f"column {layout.names[column]!r}"
    return ("the user id", "an item id", "the time", "the rating", "the tie-breaker")[problem.field]


def describe(problem: Problem, layout: Layout) -> str:
    """One problem in words: what was found, what was expected."""
    name = _field_name(problem, layout)
    found = quote(problem.detail)
    match problem.code:
        case codes.NUL_BYTE:
            return "a NUL byte, expected UTF-8 text (a binary, compressed or UTF-16 file?)"
        case codes.CARRIAGE_RETURN:
            return "a carriage return inside the line, expected lines that end in \\n or \\r\\n"
        case codes.QUOTE_NOT_CLOSED:
            return "a quoted field that does not end on its line, expected a closing quote"
        case codes.QUOTE_TAIL:
            return f"{found} after a closing quote, expected a separator or the end of the line"
        case codes.FIELD_COUNT:
            columns = layout.delimiter.join(layout.names)
            columns = columns if len(columns) <= 80 else columns[:77] + "..."
            return f"{problem.number} fields, expected {layout.columns} ({columns!r})"
        case codes.EMPTY:
            return f"{name} is empty, expected {_expected(problem.field, layout)}"
        case codes.TOO_LONG:
            return (
                f"{name} has {problem.number} bytes ({found}), expected at most {MAX_ID_BYTES}; "
                "is the separator right?"
            )
        case codes.NOT_UTF8:
            return f"{name} is {found}, which is not valid UTF-8, expected UTF-8 text"
        case codes.NOT_A_NUMBER:
            return f"{name} is {found}, expected {_expected(problem.field, layout)}"
        case codes.NOT_A_TIME:
            return f"{name} is {found}, expected a time as in the first row (ISO 8601)"
        case codes.TIME_OUT_OF_RANGE:
            return f"{name} is {found}, expected a year from {FIRST_YEAR} to {LAST_YEAR}"
        case codes.NOT_FINITE:
            return f"{name} is {found}, expected a finite number"
        case codes.NO_ITEMS:
            return f"user {found} has no items, expected 'user item item ...'"
        case codes.REPEATED_USER:
            return (
                f"user {found} again (first on line {problem.number}), expected one line per user"
            )
    raise ValueError(f"unknown problem code {problem.code}")


def _expected(field: int, layout: Layout) -> str:
    iso = (field == codes.TIME and layout.time_is_iso) or (
        field == codes.THEN and layout.then_is_iso
    )
    if iso:
        return "a time (ISO 8601)"
    return ("a user id", "an item id", "a number", "a number", "a number")[field]


def _remedy(problems: Sequence[Problem], layout: Layout) -> str:
    found = {problem.code for problem in problems}
    if layout.kind == "text" and found & {codes.NO_ITEMS, codes.REPEATED_USER}:
        return (
            "\nEach line of the text format is one user and all the items of that user; "
            "a table with one row per interaction is read with --format csv, or, where it has no "
            "header, with --columns user,item (one name for each column)."
        )
    if any(p.code in _BAD_TIMES and p.field in (codes.TIME, codes.THEN) for p in problems):
        return (
            f"\n{FORMS} Convert them, name another column with --time-col, or keep the order of "
            "the file with --ignore-times."
        )
    if {(p.code, p.number) for p in problems} == {(codes.FIELD_COUNT, layout.columns + 1)}:
        return (
            "\nThe rows have one field more than the first line names: add a name to that line, in "
            "front if the first field is the one without."
        )
    if any(re.fullmatch(rb"-?[0-9]+,[0-9]+", p.detail) for p in problems):
        return "\nNumbers are written with a decimal point (4.5, not 4,5)."
    if any(p.code == codes.EMPTY and p.field == codes.RATING for p in problems):
        return "\nTake rows without a rating out of the file, or leave --min-rating out."
    if codes.EMPTY in found:
        return "\nRows without an id cannot be told apart from others: take them out of the file."
    if codes.NOT_UTF8 in found:
        return f"\n{OTHER_ENCODING}"
    if found & {codes.QUOTE_NOT_CLOSED, codes.QUOTE_TAIL}:
        return (
            "\nA row is one line here, and a quote inside quotes is written twice. pandas.read_csv "
            "reads line breaks inside quotes, and quotes behind a backslash by escapechar='\\\\': "
            "give its frame to Dataset.from_frame, or save it as parquet."
        )
    return ""


def fail(source: str, layout: Layout, problems: Sequence[Problem], count: int) -> InputError:
    """The error for `count` bad lines, of which `problems` are the first ones."""
    shown = list(problems)[:MAX_SHOWN]
    lines = [f"{source}:{problem.line}: {describe(problem, layout)}" for problem in shown]
    if count > len(shown):
        lines.append(f"... and {count - len(shown)} more ({count} bad lines in all)")
    return InputError("\n".join(lines) + _remedy(shown, layout))
