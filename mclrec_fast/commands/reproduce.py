"""`mclrec-fast reproduce TABLE`: runs what is missing of a table, then writes it down.

May be stopped at any moment: the same command goes on. The work is reproduction/.
"""

import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..config import KEYS
from ..errors import InputError
from ..reproduction.plan import Planned, parse_seeds, plan
from ..reproduction.tables import TABLES, Table, find_table
from . import cli
from .train import resolve


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "reproduce", "Run what is missing of a table, then write it as Markdown, CSV and pictures."
    )
    parser.add_argument("table", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument(
        "--seeds", metavar="N,N,...", default="1,2,3", help="one run each (default: 1,2,3)"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where runs and tables go (results/<data>)"
    )
    parser.without = ("model", "seed")
    keys = [name for name in KEYS if name not in (*parser.without, "schedule")]
    cli.add_config_options(parser, keys=keys)
    cli.add_setting_options(parser)
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, run, write."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse(argv)
    table = find_table(arguments.table)
    runs = plan(
        arguments.table, table, parse_seeds(arguments.seeds), cli.collect(arguments), resolve
    )
    _carry_out(arguments, table, runs, shlex.join(["mclrec-fast", "reproduce", *words]))


def _carry_out(arguments: Namespace, table: Table, runs: list[Planned], command: str) -> None:
    from ..console import Console
    from ..data import load_dataset

    console, config = Console(sys.stdout), runs[0].resolved.config
    with console.warnings_as_lines(), _going_on():
        with console.waiting("reading the data"):
            dataset = load_dataset(config.data, threads=config.train.threads)
        if dataset.split.test is None:
            raise InputError("--holdout none leaves nothing to test, and a table needs a test")
        out = arguments.out or Path("results") / dataset.name
        console.line(dataset.card.render())
        from .. import pictures
        from ..reproduction import figures, plots, published, render, runner

        name, note = arguments.table, ""
        try:
            pictures.require_matplotlib()
        except InputError as error:
            note = str(error)
            console.line(f"note: {note}")
        runner.carry_out(runs, out, dataset, console)
        found = figures.measure(table, runs, out, dataset, console)
        files = render.write(name, table, runs, found, dataset, out, command)
        if not note:
            printed = published.figures(name, dataset.card)
            files += plots.draw(name, table, found, printed, out)
        render.say(name, table, found, dataset, console)
        console.line(f"written: {' '.join(map(str, files))}")


@contextmanager
def _going_on() -> Iterator[None]:
    """Tells who interrupts how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        if str(error):
            raise
        raise KeyboardInterrupt("interrupted; the same command goes on from there") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
