"""`mclrec-fast prepare FILE... --out DIR`: a log as a folder that is mapped instead of read.

A thin command line; the work is data/prepare.py, what is in the folder data/prepared.py.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import KEYS, DataConfig
from ..errors import InputError, RunError
from . import cli

_NOT_HERE = frozenset(("data", "more", "dataset", "user_ids"))
_OPTIONS = [
    key.name for key in KEYS.values() if key.section == "data" and key.name not in _NOT_HERE
] + ["threads"]


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "prepare", "Read a log of any size once, for --data DIR, which opens it at once."
    )
    parser.without = [name for name in KEYS if name not in _OPTIONS]
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="the log; then logs whose rows go behind its rows"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="the folder to make")
    parser.add_argument(
        "--check", metavar="DIR", type=Path, help="compare all checksums of a prepared log instead"
    )
    parser.add_argument("--json", action="store_true", help="print the card as JSON on stdout")
    cli.add_config_options(parser, keys=_OPTIONS)
    cli.add_setting_options(parser)
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, prepare or check, print the card."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    for name, value in given.items():
        if name not in _OPTIONS:
            raise InputError(f"{value.origin}: {name} is not about reading a log")
    from ..console import Console

    console = Console(sys.stderr if arguments.json else sys.stdout)
    values = {name: value.value for name, value in given.items()}
    with console.warnings_as_lines():
        card = _card(arguments, values, console)
    console.line(card.render())
    if arguments.json:
        cli.print_json(card.to_dict())


def _card(arguments: Namespace, values: dict[str, Any], console: Any) -> Any:
    from ..data.prepare import prepare
    from ..data.prepared import open_prepared

    if arguments.check is not None:
        if arguments.files or arguments.out is not None or values:
            raise InputError("--check DIR stands alone: it reads what was prepared")
        with console.waiting("comparing checksums"):
            found = open_prepared(arguments.check, compare=True)
        console.line(f"{arguments.check}: every file is what it was when it was made")
        return found.card
    if not arguments.files or arguments.out is None:
        raise InputError("expected a log and a folder to make of it: prepare FILE --out DIR")
    threads = values.pop("threads", None)
    first, *more = arguments.files
    config = DataConfig(data=first, more=tuple(more), **values)
    with console.waiting("preparing the data"):
        try:
            return prepare(config, arguments.out, threads).card
        except OSError as error:
            raise RunError(
                f"{arguments.out}: cannot be written ({error.strerror or error}); nothing of it "
                "was kept"
            ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
