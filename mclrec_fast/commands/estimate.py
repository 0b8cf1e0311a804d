"""`mclrec-fast estimate`: what a training would take, in memory and time, before it is run.

A thin command line with the options of `train`; the work is training/estimate.py.
"""

import sys
from collections.abc import Sequence

from . import cli
from .train import resolve


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "estimate", "Memory by part and time per epoch of a training, from a second of it."
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    cli.add_config_options(parser)
    cli.add_setting_options(parser)
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, measure, print."""
    arguments = parser().parse(argv)
    resolved = resolve(cli.collect(arguments))
    from ..console import Console
    from ..training.estimate import estimate

    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        found = estimate(resolved.config, console)
    if arguments.json:
        cli.print_json(found.to_dict())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
