"""`mclrec-fast compare RUN RUN ...`: finished runs side by side, and paired tests of them.

Reads what the runs keep, writes nothing.
"""

import sys
from collections.abc import Sequence

from ..metrics import PROTOCOLS
from . import cli


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("compare", "Compare finished runs user by user, with paired tests.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directories of finished runs")
    parser.add_argument(
        "--metric",
        metavar="NAME@K,...",
        default="ndcg@10,hr@10",
        help="what to compare (default: ndcg@10,hr@10)",
    )
    parser.add_argument(
        "--protocol",
        metavar="|".join(PROTOCOLS),
        default=PROTOCOLS[0],
        help=f"whether a user's history leaves the ranking (default: {PROTOCOLS[0]})",
    )
    parser.add_argument(
        "--split", metavar="test|valid", default="test", help="whose targets (default: test)"
    )
    parser.add_argument(
        "--against", metavar="RUN", help="test all others against this one (default: every pair)"
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, compare, print."""
    arguments = parser().parse(argv)
    from ..comparison import compare
    from ..console import Console

    found = compare(
        *arguments.runs,
        metric=arguments.metric,
        protocol=arguments.protocol,
        split=arguments.split,
        against=arguments.against,
    )
    if arguments.json:
        cli.print_json(found.to_dict())
    else:
        found.say(Console(sys.stdout))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
