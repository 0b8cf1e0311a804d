"""`python -m mclrec_fast.evaluate RUN`: ranks a run's validation and test targets again.

Reads the run and its data, writes nothing. The data must be what the run was made with; `--data`
says where it lies now.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _cli


def parser() -> _cli.Parser:
    """The options of the verb."""
    parser = _cli.Parser("evaluate", "Evaluate a run by full ranking, history unmasked and masked.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    _cli.add_config_options(parser, keys=("data", "backend", "threads", "device"))
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, evaluate, print."""
    arguments = parser().parse(argv)
    result = _evaluate(arguments)
    if arguments.json:
        _cli.print_json(result)


def _evaluate(arguments: Namespace) -> dict[str, Any]:
    given = _cli.collect(arguments)
    from .training import experiment
    from .training.console import Console

    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        return experiment.evaluate(arguments.run, given, console)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return _cli.run_verb(verb, argv)


if __name__ == "__main__":
    sys.exit(main())
