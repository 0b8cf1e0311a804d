"""Times written in words: ISO 8601 as nanoseconds since 1970-01-01T00:00 UTC.

This is the definition; csrc/reader/iso_time.h repeats it. A date (2020-09-13 or 2020/09/13), a date
and a time of day (T or a blank between them, to any precision), the basic form 20200913T211811, or
a time of day alone. A zone is Z, UTC, GMT or an offset; without one a time counts as UTC.
"""

import re
from datetime import date

_MAX_BYTES = 48
NANOSECONDS = 10**9
_EPOCH = date(1970, 1, 1).toordinal()
FIRST_YEAR, LAST_YEAR = 1678, 2261  # years that fit 64 bits of nanoseconds whole
FORMS = (
    "Times are numbers (seconds, say) or ISO 8601 (2020-09-13, 2020-09-13T21:18:11.5Z), all of a "
    "column alike."
)

_ZONE = rb"(?: ?(?:(Z|z|UTC|GMT)|([+-])([0-9]{2})(?::?([0-9]{2}))?))?"
_BY_COLON = rb"([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?"
_IN_ONE = rb"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:[.,]([0-9]+))?)?)?"
_DATES = (
    (re.compile(rb"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})"), b"Tt "),
    (re.compile(rb"([0-9]{4})()([0-9]{2})([0-9]{2})(?=[Tt])"), b"Tt"),
)
_CLOCKS = tuple(re.compile(clock + _ZONE) for clock in (_BY_COLON, _IN_ONE))
_TIME_OF_DAY = re.compile(_BY_COLON)


class OutOfRange(ValueError):
    """A date that 64 bits of nanoseconds cannot hold."""


def _seconds(found: "re.Match[bytes]") -> tuple[int, int] | None:
    """Seconds of the day and nanoseconds; None where a part is out of range."""
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:
        return None
    fraction = int(((found[4] or b"") + b"000000000")[:9])
    return (hour * 60 + minute) * 60 + second, fraction


def _offset(found: "re.Match[bytes]") -> int | None:
    """What a zone adds to UTC, in seconds; None where it is out of range."""
    if found[6] is None:
        return 0
    hours, minutes = int(found[7]), int(found[8] or 0)
    if hours > 23 or minutes > 59:
        return None
    offset = (hours * 60 + minutes) * 60
    return offset if found[6] == b"+" else -offset


def _clock(token: bytes) -> tuple[int, int] | None:
    """The seconds (UTC) and nanoseconds of a time of day and perhaps a zone."""
    for pattern in _CLOCKS:
        found = pattern.fullmatch(token)
        if found is None:
            continue
        seconds, offset = _seconds(found), _offset(found)
        if seconds is not None and offset is not None:
            return seconds[0] - offset, seconds[1]
    return None


def parse_time(token: bytes) -> int | None:
    """A time as nanoseconds, or None where it is none.

    Raises:
        OutOfRange: a year before 1678 or after 2261.
    """
    if len(token) > _MAX_BYTES:
        return None
    if token[2:3] == b":":
        found = _TIME_OF_DAY.fullmatch(token)
        seconds = None if found is None else _seconds(found)
        return None if seconds is None else seconds[0] * NANOSECONDS + seconds[1]
    for pattern, between in _DATES:
        day = pattern.match(token)
        if day is None:
            continue
        rest = token[day.end() :]
        clock: tuple[int, int] | None = (0, 0)
        if rest:
            clock = _clock(rest[1:]) if rest[:1] in between else None
        try:
            days = date(int(day[1]), int(day[3]), int(day[4])).toordinal() - _EPOCH
        except ValueError:
            clock = None
        if clock is None:
            return None
        if not FIRST_YEAR <= int(day[1]) <= LAST_YEAR:
            raise OutOfRange(token)
        return (days * 86400 + clock[0]) * NANOSECONDS + clock[1]
    return None


_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_SPELLED = re.compile(
    r"(?:\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})|\d{4}([./-])\d{1,2}\2\d{1,2})(?:[ T,].*)?"
    rf"|.*\b\d{{1,2}}[ .-]+{_MONTH}[ ,.-]+(?:\d{{4}}|\d{{2}})\b.*"
    rf"|.*\b{_MONTH}[ -]+\d{{1,2}}\b.*\b\d{{4}}\b.*",
    re.IGNORECASE,
)


def is_spelled_date(text: str) -> bool:
    """Whether a text looks like a date in a form that is not read.

    Such as 13.09.2020, 9/13/20 21:18, 2020-9-3, 13-SEP-20, Sep 13, 2020, Sun Sep 13 21:18:11 2020.
    """
    return len(text) <= _MAX_BYTES and _SPELLED.fullmatch(text) is not None


def is_time_of_day(text: str) -> bool:
    """Whether a text is a time without a date."""
    return _TIME_OF_DAY.fullmatch(text.encode("utf-8", "replace")) is not None


def is_date(text: str) -> bool:
    """Whether a text is a time with a date."""
    token = text.encode("utf-8", "replace")
    try:
        return token[2:3] != b":" and parse_time(token) is not None
    except OutOfRange:
        return True


def show_time(nanoseconds: int) -> str:
    """A time for people, to the second."""
    days, seconds = divmod(nanoseconds // NANOSECONDS, 86400)
    day = date.fromordinal(days + _EPOCH).isoformat()
    if not seconds:
        return day
    return f"{day} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
