"""`mclrec-fast train`: trains a model on a log, or goes on with a run.

A thin command line; the work is training/fit.py. Imports torch only once the arguments are known to
be good.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import config as configuration
from ..config import Resolved
from ..config_keys import Given
from ..errors import InputError
from ..runs.start import OPTIMIZERS
from . import cli


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("train", "Train a sequential recommender (with no argument: ml-100k).")
    run = parser.add_argument_group("run")
    run.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="run directory (runs/<data>-<model>-<time>)",
    )
    run.add_argument(
        "--from",
        metavar="RUN",
        type=Path,
        dest="parent",
        help="begin with RUN's weights, on its grown log: --data FILE or --more FILE",
    )
    run.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        help=f"with --from: the optimizers' state (default: {OPTIMIZERS[0]})",
    )
    run.add_argument("--resume", metavar="DIR", type=Path, help="go on with the run in DIR")
    run.add_argument(
        "--json", action="store_true", help="result.json on stdout, all else on stderr"
    )
    cli.add_config_options(parser)
    cli.add_setting_options(parser)
    return parser


def resolve(given: dict[str, Given]) -> Resolved:
    """The configuration of a new run; a named data set brings its own row.

    Raises:
        InputError: contradictions; training on everything without saying for how long.
    """
    from ..data import recommended_settings
    from ..data.prepared import is_prepared

    name = None
    if "data" in given and is_prepared(given["data"].value):
        given = _as_prepared(given)
    if "data" not in given:
        name = given["dataset"].value if "dataset" in given else configuration.DEFAULT_DATASET
    row = {} if name is None else recommended_settings(name)
    resolved = configuration.resolve(given, row, name or "")
    configuration.require_an_end(resolved.config.data, given)
    return resolved


def _as_prepared(given: dict[str, Given]) -> dict[str, Given]:
    """What was given, with what a prepared log was made with.

    Raises:
        InputError: something was given that it was not made with.
    """
    from ..data.prepared import options_of, require_option

    folder = given["data"].value
    options = options_of(folder)
    for name in options.keys() & given.keys():
        require_option(folder, name, given[name].value, options[name])
    return {**given, **{name: Given(value, folder) for name, value in options.items()}}


def verb(argv: Sequence[str] | None) -> None:
    """Parse, train, print."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    result = _run(arguments, given)
    if arguments.json:
        cli.print_json(result)


def _run(arguments: Namespace, given: dict[str, Given]) -> dict[str, Any]:
    if arguments.resume is not None and arguments.out is not None:
        raise InputError("--out and --resume: a resumed run stays where it is; give one of them")
    if arguments.resume is not None and arguments.parent is not None:
        raise InputError("--from and --resume: one begins a new run, the other goes on with one")
    if arguments.optimizer is not None and arguments.parent is None:
        raise InputError("--optimizer needs --from RUN: a new run's optimizers begin with nothing")
    new = arguments.resume is None and arguments.parent is None
    resolved = resolve(given) if new else None
    from ..console import Console
    from ..parallel.join import restarted
    from ..training import fit

    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        if arguments.parent is not None:
            from ..training.further import start_from

            optimizer = arguments.optimizer or OPTIMIZERS[0]
            return start_from(arguments.parent, given, optimizer, arguments.out, console)
        if resolved is None:
            return fit.resume(arguments.resume, given, console)
        if arguments.out is not None and restarted():
            return fit.start_or_resume(resolved, arguments.out, given, console)
        return fit.start(resolved, arguments.out, console)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
