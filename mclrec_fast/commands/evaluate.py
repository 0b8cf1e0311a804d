"""`mclrec-fast evaluate RUN`: ranks a run's validation and test targets again.

Reads the run and its data, writes nothing. The data must be what the run was made with; `--data`
says where it lies now.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import cli


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("evaluate", "Evaluate a run by full ranking, history unmasked and masked.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    cli.add_config_options(parser, keys=("data", "backend", "threads", "device"))
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, evaluate, print."""
    arguments = parser().parse(argv)
    result = _evaluate(arguments)
    if arguments.json:
        cli.print_json(result)


def _evaluate(arguments: Namespace) -> dict[str, Any]:
    given = cli.collect(arguments)
    from .. import _native
    from ..console import Console
    from ..evaluation import measure, require_items
    from ..runs.loading import load_run, load_run_data
    from ..training.fit import used_here
    from ..training.machine import machine_for
    from ..training.report import held_out, peak_rss_mb, say_table

    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        config, model, header = load_run(arguments.run)
        config = used_here(config, given)
        with machine_for(config.train) as device:
            with console.waiting("reading the data"):
                dataset = load_run_data(arguments.run, config)
            console.line(dataset.card.render())
            require_items(model.to(device), dataset)
            with console.progress("evaluation", held_out(dataset)) as advance:
                figures = measure(model, dataset, config.train, after_batch=advance)
        result = {
            "run": str(arguments.run),
            "dataset": dataset.card.to_dict(),
            "model": config.model.name,
            "backend": _native.backend(config.train.backend, device),
            "best_epoch": header["epoch"],
            **figures,
            "peak_rss_mb": peak_rss_mb(),
        }
        say_table(result, console)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
