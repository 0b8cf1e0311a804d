"""What a configuration key is: its type, its range, and how a value is checked against them.

Which keys there are is config.py's business. Values are converted by their type and nothing is ever
evaluated.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import field
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin

from .errors import InputError

_MAX_WHOLE = 2**31 - 1  # where a key has no limit of its own
_MAX_SHOWN = 200  # characters of a value in a message


def option(
    default: Any,
    help: str,
    *,
    key: str = "",
    flag: bool = False,
    choices: Iterable[str] = (),
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    metavar: str = "",
    bare: str = "",
) -> Any:
    """A dataclass field that knows its help text and its range.

    `flag` makes it an option of the command line, and `bare` is its value there without a word.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "key": key,
            "flag": flag,
            "choices": tuple(choices),
            "low": low,
            "above": above,
            "high": high,
            "below": below,
            "metavar": metavar,
            "bare": bare,
        },
    )


class Key(NamedTuple):
    """One configuration key: its place, its type and its range."""

    name: str
    section: str
    attribute: str
    kind: type[Any]
    optional: bool
    default: Any
    help: str
    flag: bool
    choices: tuple[str, ...]
    low: float | None
    above: float | None
    high: float | None
    below: float | None
    metavar: str
    bare: str

    @property
    def option(self) -> str:
        """The command-line spelling, for keys that have an option of their own."""
        return "--" + self.name.replace("_", "-")


class Given(NamedTuple):
    """A value somebody chose, and where: `origin` is part of error messages and of the diff.

    `text` says that the value is a command line's text, to be converted.
    """

    value: Any
    origin: str
    text: bool = False


def collect_keys(section: str, cls: type[Any]) -> dict[str, Key]:
    """The keys of a section's dataclass by name, in the order of the fields."""
    keys: dict[str, Key] = {}
    for entry in dataclasses.fields(cls):
        annotation: Any = entry.type
        optional = get_origin(annotation) is UnionType
        if optional:
            (annotation,) = (a for a in get_args(annotation) if a is not NoneType)
        if get_origin(annotation) is tuple:  # whole numbers, ascending; or (list) any texts
            annotation = tuple if get_args(annotation)[0] is int else list
        meta = dict(entry.metadata)
        name = meta.pop("key") or entry.name
        keys[name] = Key(
            name=name,
            section=section,
            attribute=entry.name,
            kind=annotation,
            optional=optional,
            default=entry.default,
            **meta,
        )
    return keys


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing when no known word is close."""
    options = {k.lower(): k for k in known}
    match = difflib.get_close_matches(word.lower(), list(options), n=1, cutoff=0.6)
    return f"; did you mean {options[match[0]]!r}?" if match else ""


def range_text(key: Key) -> str:
    """A key's limits in words, empty where it has none."""
    parts = []
    if key.low is not None:
        parts.append(f"at least {key.low:g}")
    if key.above is not None:
        parts.append(f"above {key.above:g}")
    if key.high is not None:
        parts.append(f"at most {key.high:g}" if key.high < 2**53 else f"at most {int(key.high)}")
    if key.below is not None:
        parts.append(f"below {key.below:g}")
    return " and ".join(parts)


def _in_range(key: Key, value: float) -> bool:
    return (
        (key.low is None or value >= key.low)
        and (key.above is None or value > key.above)
        and (key.high is None or value <= key.high)
        and (key.below is None or value < key.below)
    )


def _kind_text(key: Key) -> str:
    name = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        tuple: "whole numbers in ascending order, as 5,10,20",
        list: "texts, as one,two",
    }[key.kind]
    return name + (" or none" if key.optional and key.kind is not str else "")


def _from_text(key: Key, text: str) -> Any:
    """Text from a command line as the key's type; raises ValueError when it is not one."""
    if key.optional and key.kind is not str and text.lower() == "none":
        return None
    if key.kind is bool:
        return {
            "true": True,
            "yes": True,
            "1": True,
            "false": False,
            "no": False,
            "0": False,
        }[text.lower()]
    if key.kind is tuple:
        return _ascending([int(part) for part in text.split(",")])
    if key.kind is list:
        return _texts([part.strip() for part in text.split(",")])
    return key.kind(text)


def _from_typed(key: Key, value: Any) -> Any:
    """A TOML or JSON value as the key's type; raises ValueError when it is another one."""
    if value is None and key.optional:
        return None
    if key.kind is float and type(value) is int:
        return float(value)
    if key.kind is tuple and isinstance(value, list | tuple):
        return _ascending(value)
    if key.kind is list and isinstance(value, list | tuple):
        return _texts(value)
    if type(value) is not key.kind:
        raise ValueError
    return value


def _ascending(values: Sequence[Any]) -> tuple[int, ...]:
    """The numbers as they are; raises ValueError where they do not ascend from 1 or more."""
    if not values or not all(type(value) is int for value in values):
        raise ValueError
    if values[0] < 1 or any(a >= b for a, b in pairwise(values)):
        raise ValueError
    return tuple(values)


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    """The texts as they are; raises ValueError where one is empty or no text."""
    if not all(isinstance(value, str) and value for value in values):
        raise ValueError
    return tuple(values)


def check(key: Key, given: Given) -> Any:
    """The value as the key's type and within its range.

    Args:
        key: the key.
        given: the value and where it was found.

    Raises:
        InputError: wrong type, not among the choices, or out of range.
    """
    try:
        value = _from_text(key, given.value) if given.text else _from_typed(key, given.value)
    except (ValueError, KeyError, OverflowError):
        raise InputError(
            f"{given.origin}: {key.name} must be {_kind_text(key)}, not {_shortened(given.value)}"
        ) from None
    if value is None:
        return None
    if key.choices and value not in key.choices:
        raise InputError(
            f"{given.origin}: {key.name} must be one of {', '.join(key.choices)}, "
            f"not {value!r}{did_you_mean(value, key.choices)}"
        )
    if key.kind is int and key.high is None and value > _MAX_WHOLE:
        raise InputError(
            f"{given.origin}: {key.name} must be at most {_MAX_WHOLE}, not {_shortened(value)}"
        )
    if key.kind in (int, float) and not (_is_finite(value) and _in_range(key, value)):
        raise InputError(
            f"{given.origin}: {key.name} must be {range_text(key) or 'finite'}, not "
            f"{_shortened(value)}"
        )
    if key.kind is str and not value:
        raise InputError(f"{given.origin}: {key.name} must not be empty")
    if key.kind is str and "\0" in value:
        raise InputError(f"{given.origin}: {key.name} must not hold a NUL, as {value!r} does")
    return value


def _is_finite(value: float) -> bool:
    """Whether a number is one; whole numbers of any length are."""
    return isinstance(value, int) or math.isfinite(value)


def _shortened(value: Any) -> str:
    """A value for a message, the middle left out where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a whole number of thousands of digits"
    return text if len(text) <= _MAX_SHOWN else f"{text[:40]}...{text[-10:]}"


def show(value: Any) -> str:
    """A value as a reader would write it in a configuration file."""
    if value is None or value == ():
        return "unset"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
