"""`mclrec-fast environment [--json]`: what was built, what is used; it changes nothing.

`python -m mclrec_fast` is the same.
"""

import json
from collections.abc import Sequence

from . import cli


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "environment", "What was built, for which instruction sets and GPUs, what is used and why."
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, look, print."""
    arguments = parser().parse(argv)
    from ..environment import environment, report

    facts = environment()
    print(json.dumps(facts, indent=2) if arguments.json else report(facts))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
