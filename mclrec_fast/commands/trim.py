"""`mclrec-fast trim RUN ... --out DIR`: finished runs to publish, without weights and user ids.

A thin command line; the work is runs/trimmed.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from . import cli


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "trim", "Write finished runs small: figures and ranks, without weights and user ids."
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="directories of finished runs"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="where to: one directory each, of the run's name",
    )
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, write, say what lies where."""
    arguments = parser().parse(argv)
    from ..console import Console
    from ..runs.trimmed import trim

    console = Console(sys.stdout)
    for path, size, before in trim(arguments.runs, arguments.out):
        console.line(f"{path}: {'was there' if before else f'{size / 1000:.0f} kB'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
