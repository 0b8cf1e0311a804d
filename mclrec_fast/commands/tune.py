"""`mclrec-fast tune`: a search for the settings of a model, by its validation alone.

A thin command line; the work is tuning.py.
"""

import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..config_keys import Given, show
from ..errors import InputError, RunError
from . import cli
from .train import resolve

if TYPE_CHECKING:
    from ..console import Console
    from ..tuning import Range, Trial

_TRIALS = 20
_OF_THE_MACHINE = ("threads", "device", "backend", "reader")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "tune", "Search for settings; whatever is not searched is as `train` has it."
    )
    group = parser.add_argument_group("search")
    group.add_argument(
        "--trials",
        metavar="N",
        type=int,
        default=_TRIALS,
        help=f"trials in all, those of earlier calls included (default: {_TRIALS})",
    )
    group.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="the search's folder; where it holds one, that goes on",
    )
    group.add_argument(
        "--space",
        metavar="KEY=RANGE",
        action="append",
        default=[],
        help="search this key instead of the usual ones: low..high, low..high:log, or a,b,c; or a "
        "TOML file of them",
    )
    group.add_argument("--json", action="store_true", help="the trials as JSON on stdout")
    cli.add_config_options(parser)
    cli.add_setting_options(parser)
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, search, print."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    if arguments.trials < 1:
        raise InputError(f"--trials must be at least 1, not {arguments.trials}")
    base = resolve(given).config
    from .. import tuning
    from ..console import Console
    from ..data import load_dataset
    from ..training.machine import all_cores, require_machine

    tuning.require_optuna()
    require_machine(base.train)
    space = _space(arguments, given, base)
    console = Console(sys.stderr if arguments.json else sys.stdout)

    def config_of(settings: Mapping[str, Any]) -> Config:
        drawn = {key: Given(value, "the search") for key, value in settings.items()}
        return all_cores(resolve({**given, **drawn}).config)

    fixed = {key: value.value for key, value in given.items() if key not in _OF_THE_MACHINE}
    with console.warnings_as_lines():
        for part in space:
            console.line(f"space: {part.key} = {part}")
        with console.waiting("reading the data"):
            train = all_cores(base).train
            dataset = load_dataset(base.data, batch_size=train.batch_size, threads=train.threads)
        console.line(dataset.card.render())
        wanted = tuning.Search(config_of, space, fixed)
        trials = tuning.search(wanted, dataset, arguments.trials, arguments.out, console)
    best = tuning.best_of(trials)
    if best is None:
        raise RunError(f"{arguments.out}: no trial came to its end; see what was said above")
    _say(trials, best, str(base.train.monitor), console)
    command = _command(best, arguments, given)
    console.line(f"best: trial {best.number}; to train it again, test included: {command}")
    if arguments.json:
        listed = [trial._asdict() | {"run": str(trial.run)} for trial in trials]
        cli.print_json({"best": best.number, "command": command, "trials": listed})


def _space(arguments: Namespace, given: Mapping[str, Given], base: Config) -> "tuple[Range, ...]":
    """What is searched: what is asked for, else the usual keys that are not fixed.

    Raises:
        InputError: a key is fixed and searched, or the model has nothing to search.
    """
    from .. import tuning

    if base.model.name == "popularity":
        raise InputError("model popularity is not trained: there is nothing to search")
    fixed = {key: value.value for key, value in given.items()}
    texts = tuning.read_space(arguments.space) or tuning.default_space(base.model.name, fixed)
    space = tuning.parse_space(texts, base.model.name)
    for part in space:
        if part.key in given:
            raise InputError(
                f"--space {part.key}: is fixed, too ({given[part.key].origin}): keep one of the two"
            )
    return space


def _say(trials: "Sequence[Trial]", best: "Trial", monitor: str, console: "Console") -> None:
    """A table, the best first."""
    from ..tuning import short

    order = {"complete": 0, "pruned": 1}
    ranked = sorted(trials, key=lambda t: (order.get(t.state, 2), -(t.value or 0.0)))
    keys = list(best.settings)
    rows = [
        [
            str(trial.number),
            "-" if trial.value is None else f"{trial.value:.4f}",
            trial.state,
            *("-" if key not in trial.settings else short(trial.settings[key]) for key in keys),
        ]
        for trial in ranked
    ]
    console.table("trials, the best first", ["trial", f"valid {monitor}", "state", *keys], rows)


def _command(best: "Trial", arguments: Namespace, given: Mapping[str, Given]) -> str:
    """What trains the best settings on the command line, with the test at its end."""
    words = ["mclrec-fast", "train"]
    for key, value in given.items():
        words += [f"--set={key}={show(value.value)}"]
    words += [f"--set={key}={show(value)}" for key, value in best.settings.items()]
    return shlex.join([*words, "--out", str(arguments.out / "best")])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
