"""`mclrec-fast diagnose RUN ...`: do the representations collapse?

Reads runs and their data; writes pictures and figures where `--out` says, nothing elsewhere.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..diagnosis import SAMPLES
from ..errors import InputError
from ..runs.directory import names_of
from . import cli

if TYPE_CHECKING:
    from ..config_keys import Given
    from ..console import Console
    from ..diagnosis.plots import Diagnosed

_SPLITS = ("train", "valid", "test")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "diagnose", "How the representations and views of runs lie in space: do they collapse?"
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="directories of runs")
    parser.add_argument(
        "--split", metavar="|".join(_SPLITS), default="test", help="whose samples (default: test)"
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        default=str(SAMPLES),
        help=f"how many are drawn (default: {SAMPLES})",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="write pictures and diagnosis.json there"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")
    cli.add_config_options(parser, keys=("data", "backend", "threads", "device", "precision"))
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, look, print, draw."""
    arguments = parser().parse(argv)
    if arguments.split not in _SPLITS:
        raise InputError(f"--split {arguments.split!r}: expected one of {', '.join(_SPLITS)}")
    if not (arguments.samples.isascii() and arguments.samples.isdigit()) or (
        int(arguments.samples) < 2
    ):
        raise InputError(f"--samples {arguments.samples!r}: expected a whole number from 2")
    given = cli.collect(arguments)
    names = names_of(arguments.runs)
    from .._outputs import write_file
    from ..console import ESCAPED, Console
    from ..pictures import require_matplotlib

    if arguments.out is not None:
        require_matplotlib()
    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        runs = [
            _look(path, name, arguments, given, console)
            for path, name in zip(arguments.runs, names, strict=True)
        ]
    figures = {run.name: run.found.figures for run in runs}
    _say(runs, console)
    if arguments.out is not None:
        from ..diagnosis.plots import draw

        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {arguments.out}: {error.strerror or error}") from None
        text = json.dumps(figures, indent=1, allow_nan=False, ensure_ascii=False)
        write_file(arguments.out / "diagnosis.json", f"{text}\n".encode("utf-8", ESCAPED))
        paths = [arguments.out / "diagnosis.json", *draw(runs, arguments.out)]
        console.line(f"written: {' '.join(map(str, paths))}")
    if arguments.json:
        cli.print_json(figures)


def _look(
    path: Path, name: str, arguments: Namespace, given: "dict[str, Given]", console: "Console"
) -> "Diagnosed":
    """One run, its samples drawn and described."""
    from ..diagnosis.look import diagnose
    from ..diagnosis.plots import Diagnosed
    from ..evaluation import require_items
    from ..runs.directory import METRICS
    from ..runs.loading import load_run, load_run_data
    from ..sampling import SampleTable
    from ..training.fit import used_here
    from ..training.machine import machine_for

    config, model, _ = load_run(path)
    if not model.iterative:
        raise InputError(f"{path}: a {config.model.name} run has no representations to look at")
    config = used_here(config, given, console.line)
    with machine_for(config.train) as device:
        with console.waiting("reading the data"):
            dataset = load_run_data(path, config)
        require_items(model.to(device), dataset)
        table = SampleTable.of(dataset, arguments.split, model.options.max_length, device)
        if table is None or len(table) < 2:
            raise InputError(f"{path}: has no {arguments.split} samples to look at")
        found = diagnose(
            model,
            table,
            seed=config.train.seed,
            backend=config.train.backend,
            samples=int(arguments.samples),
        )
    return Diagnosed(name, found, _epochs(path / METRICS))


def _epochs(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl that hold a diagnosis."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        return [record for record in records if "diagnosis" in record]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged: {error}") from None


def _say(runs: "Sequence[Diagnosed]", console: "Console") -> None:
    """The figures as two tables."""
    rows = []
    for run in runs:
        for name, of in run.found.figures["sets"].items():
            values = of["singular_values"]
            strongest = values[0] ** 2 / max(sum(value**2 for value in values), 1e-300)
            rank = f"{of['effective_rank']:.1f} of {len(values)}"
            cells = [f"{of['uniformity']:.3f}", f"{of['cosine']:.3f}", rank, f"{strongest:.1%}"]
            rows.append([f"{run.name} {name}", *cells])
    columns = ["", "uniformity", "mean cosine", "effective rank", "variance of the first axis"]
    console.table("representations", columns, rows)
    pairs = list(dict.fromkeys(pair for run in runs for pair in run.found.figures["alignment"]))
    table = [
        [run.name, *(_cell(run.found.figures["alignment"].get(pair)) for pair in pairs)]
        for run in runs
    ]
    console.table("alignment (0 where the two are one)", ["", *pairs], table)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
