"""What all command lines share: options made from the configuration, and how a verb ends.

Options are read here as text and checked by config.py, so that `--epochs 0`, `--set epochs=0` and a
file's `epochs = 0` meet the same message. Exit codes: 2 for the user's to mend, 1 for a failed run,
128 + the signal for an interrupted one.
"""

import argparse
import difflib
import errno
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import config as configuration
from ..config import KEYS
from ..config_former import advice
from ..config_keys import Given, Key, show
from ..console import say_anything
from ..errors import InputError, RunError

INPUT_ERROR, RUN_ERROR, INTERRUPTED = 2, 1, 130
_MAX_PLACE = 200  # characters of a file's name in a message
_SMALLER = "; a smaller batch_size, eval_batch_size or hidden_size takes less"
_REMEDIES = {
    errno.ENAMETOOLONG: ": give it a shorter name",
    errno.EMFILE: ": allow this process more open files (ulimit -n 256)",
    errno.ENFILE: ": close other programs",
    errno.ENOMEM: _SMALLER,
    errno.EAGAIN: ": allow this user more processes (ulimit -u)",
    errno.EACCES: ": give this user the permission, or name another place",
    errno.EROFS: ": name a place that can be written",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that never abbreviates, never guesses and never exits by itself."""

    without: Sequence[str] = ()
    """Keys that the verb decides on itself, so that no message offers them."""

    def __init__(self, verb: str, description: str) -> None:
        """A parser for `mclrec-fast <verb>`."""
        super().__init__(prog=f"mclrec-fast {verb}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Every complaint of argparse becomes an `InputError`."""
        raise InputError(f"{message}\n(see {self.prog} --help)")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse all of `argv`; what is unknown is an error with a suggestion.

        Raises:
            InputError: an unknown, malformed or missing argument.
        """
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            self.error(self._about_unknown(unknown[0]))
        return namespace

    def _about_unknown(self, word: str) -> str:
        """What to say about an argument nobody asked for: the nearest option, or --set KEY."""
        name = word.split("=")[0]
        options = {o: o for action in self._actions for o in action.option_strings if o[:2] == "--"}
        if "--set" in options:
            keys = [key for key in KEYS.values() if key.name not in self.without]
            options = {key.option: f"--set {key.name}=VALUE" for key in keys} | options
        what = "unknown option" if word.startswith("-") else "unexpected argument"
        wanted = "--" + name.lstrip("-").replace("_", "-")
        said = advice(name) if "--precision" in options else None
        if said is not None:
            return f"{what} {name!r}: {said}"
        near = difflib.get_close_matches(wanted, list(options), n=1, cutoff=0.6)
        return f"{what} {name!r}" + (f"; did you mean {options[near[0]]!r}?" if near else "")


def add_config_options(
    parser: Parser, sections: Iterable[str] | None = None, keys: Iterable[str] | None = None
) -> None:
    """Adds an option for every key that has one; `collect` reads them back.

    Args:
        parser: where to.
        sections: only keys of these sections (default: all).
        keys: only these keys (default: all).
    """
    wanted_sections = tuple(configuration.SECTIONS if sections is None else sections)
    wanted_keys = tuple(KEYS if keys is None else keys)
    groups: dict[str, Any] = {}
    for key in KEYS.values():
        if not key.flag or key.section not in wanted_sections or key.name not in wanted_keys:
            continue
        group = groups.get(key.section) or parser.add_argument_group(key.section)
        groups[key.section] = group
        group.add_argument(key.option, **_argument(key))


def _argument(key: Key) -> dict[str, Any]:
    default = "" if key.default is None else f" (default: {show(key.default)})"
    common = {"dest": key.name, "default": None, "help": (key.help + default).replace("%", "%%")}
    if key.kind is bool:
        return {"action": _Switch, "nargs": 0, **common}
    metavar = "|".join(key.choices) or key.metavar or {int: "N", float: "X"}.get(key.kind, "TEXT")
    bare = {"nargs": "?", "const": key.bare} if key.bare else {}
    return {"action": "append", "metavar": metavar, **bare, **common}


class _Switch(argparse.BooleanOptionalAction):
    """`--name` and `--no-name`, remembering how often they were given."""

    def __init__(self, option_strings: Sequence[str], dest: str, nargs: int, **rest: Any) -> None:
        super().__init__(option_strings, dest, **rest)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        text = "false" if (option_string or "").startswith("--no-") else "true"
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), text])


def add_setting_options(parser: Parser) -> None:
    """Adds --config and --set, the way to every key."""
    group = parser.add_argument_group("any configuration key")
    group.add_argument("--config", metavar="FILE.toml", type=Path, help="keys from a TOML file")
    group.add_argument(
        "--set",
        metavar="key=value",
        action="append",
        default=[],
        dest="assignments",
        help="set one key; the command line goes before the file",
    )


def collect(namespace: argparse.Namespace) -> dict[str, Given]:
    """The configuration values a command line gave, checked: --config, then options and --set.

    Raises:
        InputError: a bad value, or one key given twice on the command line.
    """
    given: dict[str, Given] = {}
    for key in KEYS.values():
        for text in getattr(namespace, key.name, None) or []:
            _put(given, key.name, Given(text, key.option, text=True))
    for assignment in getattr(namespace, "assignments", []):
        name, value = configuration.parse_assignment(assignment)
        _put(given, name.replace("-", "_"), value)
    path = getattr(namespace, "config", None)
    return configuration.checked(given if path is None else configuration.read_toml(path) | given)


def _put(given: dict[str, Given], name: str, value: Given) -> None:
    if name in given:
        places = " and ".join(dict.fromkeys((given[name].origin, value.origin)))
        raise InputError(f"{name} is given twice ({places}): keep one")
    given[name] = value


def print_json(value: Any) -> None:
    """The one thing --json prints on stdout, valid whatever the console's encoding is."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=not utf8), flush=True)


def run_verb(verb: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> int:
    """Runs a verb and returns its exit code; expected errors become one message on stderr."""
    say_anything()
    try:
        verb(argv)
    except InputError as error:
        return INPUT_ERROR if error.said_by_another else _fail(str(error), INPUT_ERROR)
    except RunError as error:
        return RUN_ERROR if error.said_by_another else _fail(str(error), RUN_ERROR)
    except KeyboardInterrupt as error:
        text = str(error) or "interrupted before there was a state to go on from"
        return _fail(text, getattr(error, "exit_code", INTERRUPTED), "")
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: say nothing more
        return RUN_ERROR
    except (OSError, MemoryError, ImportError, RuntimeError) as error:
        said = _about_the_system(error)
        if said is None:
            raise
        return _fail(*said)
    return 0


def _about_the_system(error: Exception) -> tuple[str, int] | None:
    """What to say, and the exit code, where the system refused something; None for a fault of ours.

    What can be foreseen is said where it happens, with more about the place.
    """
    text = str(error)
    if isinstance(error, OSError):
        place = str(error.filename or "this machine")
        if len(place) > _MAX_PLACE:
            place = f"{place[:60]}...{place[-20:]}"
        code = INPUT_ERROR if error.errno == errno.ENAMETOOLONG else RUN_ERROR
        remedy = _REMEDIES.get(error.errno or 0, "")
        return f"{place}: {error.strerror or text}{remedy}", code
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text:
        return (
            f"not enough memory ({text.splitlines()[0] if text else 'here'}){_SMALLER}",
            RUN_ERROR,
        )
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return f"a library cannot be loaded: {text}; is the installation whole?", RUN_ERROR
    if "can't start new thread" in text:
        return f"no more threads to be had here{_REMEDIES[errno.EAGAIN]}", RUN_ERROR
    return None


def _fail(text: str, code: int, prefix: str = "error: ") -> int:
    print(f"{prefix}{text}", file=sys.stderr, flush=True)
    return code
