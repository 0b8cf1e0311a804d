"""`mclrec-fast plot RUN ...`: losses and metrics over the epochs, and who is served well.

Reads runs and their logs; writes pictures and their figures where `--out` says, nothing elsewhere.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..metrics import PROTOCOLS
from ..runs.directory import names_of
from . import cli

_SPLITS = ("test", "valid")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("plot", "Draw the course of runs, and how they serve whom.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="directories of runs")
    parser.add_argument(
        "--metric", metavar="NAME@K", default="ndcg@10", help="what to draw (default: ndcg@10)"
    )
    parser.add_argument(
        "--protocol",
        metavar="|".join(PROTOCOLS),
        default=PROTOCOLS[0],
        help=f"whether a user's history leaves the ranking (default: {PROTOCOLS[0]})",
    )
    parser.add_argument(
        "--split", metavar="|".join(_SPLITS), default="test", help="whose targets (default: test)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("plots"),
        help="write curves and groups there, as SVG and PNG, and plot.json (default: plots)",
    )
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, read, draw."""
    arguments = parser().parse(argv)
    for name, words in (("protocol", PROTOCOLS), ("split", _SPLITS)):
        if (word := getattr(arguments, name)) not in words:
            raise InputError(f"--{name} {word!r}: expected {' or '.join(words)}")
    names = names_of(arguments.runs)
    from .._outputs import write_file
    from ..comparison import parse_metrics
    from ..console import Console
    from ..pictures import require_matplotlib
    from ..run_plots import Wanted, draw, figures, look
    from ..runs.directory import require_run

    metrics = parse_metrics(arguments.metric)
    if len(metrics) > 1:
        raise InputError(f"--metric {arguments.metric!r}: one metric at a time")
    require_matplotlib()
    for path in arguments.runs:
        require_run(path, "RUN")
    console = Console(sys.stdout)
    wanted = Wanted(*metrics[0], arguments.protocol, arguments.split)
    with console.warnings_as_lines():
        runs = look(arguments.runs, names, wanted, console)
    if not any(run.epochs or run.lengths for run in runs):
        raise InputError("nothing to draw: the runs have neither epochs nor ranks")
    out = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror or error}") from None
    text = json.dumps(figures(runs, wanted), indent=1, allow_nan=False, ensure_ascii=False)
    paths = draw(runs, wanted, out)
    write_file(out / "plot.json", f"{text}\n".encode())
    console.line(f"written: {' '.join(map(str, [*paths, out / 'plot.json']))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
