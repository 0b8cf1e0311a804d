"""`mclrec-fast similar-items RUN ITEM ...`: the items of the highest cosine to each given one.

A thin command line; the work is recommender.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from . import answering, cli


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("similar-items", "Find the items nearest to given ones.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument(
        "of", metavar="ITEM", nargs="+", help="item ids; those that begin with - come after --"
    )
    answering.add_lists(parser)
    answering.add_out(parser)
    cli.add_config_options(parser, keys=answering.MACHINE_KEYS)
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, find, write."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    answering.check(arguments)
    from ..answer_files import writing
    from ..console import Console

    console = Console(sys.stderr)
    lists = {name: getattr(arguments, name) for name in ("items", "exclude")}
    with (
        console.warnings_as_lines(),
        answering.recommender_of(arguments.run, given, lists, console) as (recommender, _),
    ):
        found = recommender.answer_similar(arguments.of, arguments.k)
        with writing(arguments.out, recommender.all_item_ids, "similar_to") as writer:
            writer.write(found)
    unknown = [item for item, missing in zip(arguments.of, found.unknown, strict=True) if missing]
    if unknown:
        console.line(
            f"passed over {len(unknown)} of {len(arguments.of)} items, which the run does not know "
            f"({', '.join(map(repr, unknown[:5]))}{', ...' if len(unknown) > 5 else ''})"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
