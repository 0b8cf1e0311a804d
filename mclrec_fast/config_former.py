"""Keys of earlier versions: what a file that holds them means today, and what to say instead.

Configuration files and run directories outlive a key. Command lines and Python code name keys of
today only, and are told which.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import InputError

PRECISION = "precision"
SWITCHES = ("tf32", "bf16")
"""Were true or false each, one of them true at most; now values of `precision`."""


def section_key(name: str) -> str:
    """The key of today in whose section a key of any version stands."""
    return PRECISION if name in SWITCHES else name


def advice(name: str) -> str | None:
    """What to say where a former key or its option is named; None for any other word."""
    word = name.lstrip("-").replace("-", "_")
    switch = word.removeprefix("no_")
    if switch not in SWITCHES:
        return None
    value = switch if switch == word else "float32"
    return (
        f"{switch} is a value of {PRECISION} now: --{PRECISION} {value}, or {PRECISION}={value!r} "
        "in Python; float32 is the default"
    )


def today(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """What values by key name of any version mean, by the names of today.

    Args:
        values: of a file; not yet checked.
        origin: the file, for messages.

    Raises:
        InputError: a switch that is neither true nor false, two that are true, or one beside the
            key of today.
    """
    switches = {name: values[name] for name in SWITCHES if name in values}
    if not switches:
        return dict(values)
    for name, value in switches.items():
        if type(value) is not bool:
            raise InputError(f"{origin}: {name} must be true or false, not {value!r}")
    if PRECISION in values:
        raise InputError(
            f"{origin}: {_and(switches)} became {PRECISION}, which is there, too: keep "
            f"{PRECISION} alone"
        )
    true = [name for name, value in switches.items() if value]
    if len(true) > 1:
        raise InputError(
            f"{origin}: {_and(true)} are two ways to round the same products: give one of them, as "
            f"{PRECISION}"
        )
    rest = {name: value for name, value in values.items() if name not in SWITCHES}
    return rest | {PRECISION: true[0] if true else "float32"}


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
