"""`mclrec-fast evaluate RUN`: ranks a run's validation and test targets again, or another log's.

Reads the run and its data, writes nothing. `--data` says where the run's data lie now, or names a
log of one's own: its targets are then each user's last item, or all of them.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import LOG_KEYS, Config
from ..config_keys import Given
from ..errors import InputError
from . import cli

if TYPE_CHECKING:
    from ..console import Console
    from ..data import Dataset
    from ..models.base import Model

_MACHINE_KEYS = ("backend", "threads", "device", "precision")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("evaluate", "Evaluate a run by full ranking, history unmasked and masked.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    parser.add_argument(
        "--targets",
        metavar="last|all",
        choices=("last", "all"),
        help="with --data: each user's last item, or every item (default: last)",
    )
    parser.add_argument(
        "--past",
        metavar="auto|run|file",
        choices=("auto", "run", "file"),
        help="with --data: whether what the run's log has of a user goes before what the file has "
        "(default: where the file does not begin where the run's log does)",
    )
    cli.add_config_options(parser, keys=(*LOG_KEYS, *_MACHINE_KEYS))
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, evaluate, print."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    if "data" not in given:
        of_log = [value.origin for name, value in given.items() if name in LOG_KEYS]
        of_log += [f"--{name}" for name in ("targets", "past") if getattr(arguments, name)]
        if of_log:
            raise InputError(f"{of_log[0]} needs --data FILE: the run's log stays as it is")
    result = _evaluate(arguments, given)
    if arguments.json:
        cli.print_json(result)


def _evaluate(arguments: Namespace, given: Mapping[str, Given]) -> dict[str, Any]:
    from .. import _native
    from ..console import Console
    from ..runs.loading import load_run
    from ..training.fit import used_here
    from ..training.machine import machine_for
    from ..training.report import peak_rss_mb, say_table

    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        config, model, header = load_run(arguments.run)
        of_machine = {n: v for n, v in given.items() if n in _MACHINE_KEYS}
        config = used_here(config, of_machine, console.line)
        with machine_for(config.train) as device:
            of_data = _figures(arguments, given, config, model.to(device), console)
        result = {
            "run": str(arguments.run),
            "model": config.model.name,
            "backend": _native.backend(config.train.backend, device),
            "best_epoch": header["epoch"],
            **of_data,
            "peak_rss_mb": peak_rss_mb(),
        }
        say_table(result, console)
    return result


def _figures(
    arguments: Namespace,
    given: Mapping[str, Given],
    config: Config,
    model: "Model",
    console: "Console",
) -> dict[str, Any]:
    """What depends on the data: the card and the metrics."""
    from ..evaluation import measure, require_items
    from ..runs.loading import load_run_data, read_card
    from ..runs.other import read_other
    from ..training.fit import changed
    from ..training.report import held_out

    if "data" in given:
        with console.waiting("reading the log"):
            dataset = read_other(arguments.run, config, given)
        asked_otherwise = arguments.targets is not None or arguments.past is not None
        if asked_otherwise or dataset.log.sha256 != read_card(arguments.run)["sha256"]:
            return _other_figures(arguments, dataset, config, model, console)
        config = changed(config, {"data": given["data"]})
    with console.waiting("reading the data"):
        dataset = load_run_data(arguments.run, config)
    console.line(dataset.card.render())
    require_items(model, dataset)
    with console.progress("evaluation", held_out(dataset)) as advance:
        figures = measure(model, dataset, config.train, after_batch=advance)
    return {"dataset": dataset.card.to_dict(), **figures}


def _other_figures(
    arguments: Namespace, dataset: "Dataset", config: Config, model: "Model", console: "Console"
) -> dict[str, Any]:
    """The same for a log of one's own."""
    from ..data.other import ask
    from ..evaluation import measure_other, past_of
    from ..runs.other import read_own

    console.line(dataset.card.render())
    with console.waiting("reading the run's own log"):
        own = read_own(arguments.run, config)
    if own.dataset is None:
        if arguments.past == "run":
            raise InputError(f"--past run: {own.why_not}; --past file does without")
        console.line(
            f"note: {own.why_not}; so histories are those of the file alone, and there is no "
            "popularity floor"
        )
    assert model.item_ids is not None
    before = None if own.dataset is None else past_of(own.dataset, model.item_ids)
    asked = ask(
        dataset.log,
        model.item_ids,
        targets=arguments.targets or "last",
        before=before,
        past=arguments.past or "auto",
    )
    console.line(asked.known.render())
    with console.progress("evaluation", asked.samples.size) as advance:
        figures = measure_other(model, asked, before, config.train, after_batch=advance)
    return {"dataset": dataset.card.to_dict(), **figures}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
