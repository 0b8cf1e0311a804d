"""A table written down: Markdown and CSV, and on the console.

The same runs give the same bytes; what a clock said stands in a file of its own.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._outputs import write_file
from ..comparison import LEVEL, RESAMPLES, cells_of
from ..console import ESCAPED, Console
from ..data import Dataset
from ..metrics import PROTOCOLS
from ..runs.directory import RESULT, read_json
from . import published
from .figures import METRICS, Figure, Figures
from .plan import Planned
from .runner import seconds_of
from .tables import Table

_TESTS = ["row", "against", "metric", "difference", "95 % interval", "p", "p (Holm)", ""]


def write(
    name: str,
    table: Table,
    runs: Sequence[Planned],
    figures: Figures,
    dataset: Dataset,
    out: Path,
    command: str,
) -> list[Path]:
    """Writes NAME.md, NAME.csv and NAME-runs.csv; returns their paths.

    Args:
        name: the table's.
        table: what it is.
        runs: its runs.
        figures: what was measured.
        dataset: on what.
        out: where to.
        command: what was typed to get the table.
    """
    printed = published.figures(name, dataset.card)
    files = {
        f"{name}.md": _markdown(name, table, runs, figures, printed, dataset, out, command),
        f"{name}.csv": _csv(_figure_rows(figures, printed)),
        f"{name}-runs.csv": _csv(_run_rows(runs, out)),
    }
    for file, text in files.items():
        write_file(out / file, text.encode("utf-8", ESCAPED))
    return [out / file for file in files]


def say(name: str, table: Table, figures: Figures, dataset: Dataset, console: Console) -> None:
    """The same figures on the console."""
    printed = published.figures(name, dataset.card)
    for protocol in PROTOCOLS:
        columns, rows = _grid(table, figures, protocol, printed)
        title = f"{name}: {dataset.name}, {table.split}, history {protocol}"
        console.table(title, columns, rows)
        if figures.tests[protocol]:
            rows = [cells_of(test) for test in figures.tests[protocol]]
            console.table("paired tests", _TESTS, rows)


def _cell(figure: Figure) -> str:
    if figure.deviation is None:
        return f"{figure.mean:.4f}"
    return f"{figure.mean:.4f} ± {figure.deviation:.4f}"


def _grid(
    table: Table, figures: Figures, protocol: str, printed: dict[str, published.Figures]
) -> tuple[list[str], list[list[str]]]:
    """Column names, and a line for each row and place on the axis; published ones at the end."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for figure in figures.figures:
        if figure.protocol == protocol:
            cells.setdefault((figure.row, figure.x), {})[figure.metric] = _cell(figure)
    columns = ["row", *([table.axis] if table.axis else []), *METRICS]
    rows = [
        [row, *([x or "-"] if table.axis else []), *(of[metric] for metric in METRICS)]
        for (row, x), of in cells.items()
    ]
    if protocol == "unmasked":
        for row, of_paper in printed.items():
            shown = [f"{of_paper[metric]:.4f}" if metric in of_paper else "" for metric in METRICS]
            rows.append([f"{row}, published", *(["-"] if table.axis else []), *shown])
    return columns, rows


def _markdown(
    name: str,
    table: Table,
    runs: Sequence[Planned],
    figures: Figures,
    printed: dict[str, published.Figures],
    dataset: Dataset,
    out: Path,
    command: str,
) -> str:
    card, config = dataset.card, runs[0].resolved.config
    targets = card.test_samples if table.split == "test" else card.valid_samples
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in runs))
    lines = [
        f"# {name}: {table.title}",
        "",
        f"Data: {card.name}, {card.users} users, {card.items} items, {card.interactions} "
        f"interactions, SHA-256 {card.sha256}. Full ranking of {targets} {table.split} targets "
        f"({card.holdout}); the weights of each run are those of its best epoch by validation "
        f"{config.train.monitor}. Seeds: {seeds}; mean ± standard deviation over them.",
    ]
    lines += ["", table.note] if table.note else []
    if printed:
        lines += ["", f"Published: {published.SOURCE}; how many runs stand behind it is not said."]
    for protocol in PROTOCOLS:
        columns, rows = _grid(table, figures, protocol, printed)
        lines += ["", f"## History {protocol}", "", *_pipes(columns, rows)]
        if figures.tests[protocol]:
            lines += ["", _about_tests(table), ""]
            lines += _pipes(_TESTS, [cells_of(test) for test in figures.tests[protocol]])
    lines += ["", "## Commands", "", "The table:", "", "```sh", command, "```", "", "Its runs:", ""]
    commands = dict.fromkeys(run.command(out) for run in runs)
    return "\n".join([*lines, "```sh", *commands, "```", ""])


def _about_tests(table: Table) -> str:
    return (
        f"Against {table.against}, user by user (what a user earns is the mean over the seeds): "
        "the difference, its 95 % interval by the paired bootstrap, p of the paired randomisation "
        f"test, {RESAMPLES} resamples each; \\* is below {LEVEL:g} after Holm's correction over "
        "this table. Chance here is the draw of the users; the deviations above are the seeds'."
    )


def _pipes(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    escaped = [[cell.replace("*", "\\*") for cell in row] for row in (columns, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _figure_rows(figures: Figures, printed: dict[str, published.Figures]) -> list[list[Any]]:
    """One line for each figure; whole numbers, not rounded; published ones at the end."""
    head = ["row", "x", "protocol", "metric", "mean", "deviation", "runs", "source"]
    rows: list[list[Any]] = [head]
    for f in figures.figures:
        spread = "" if f.deviation is None else f.deviation
        rows.append([f.row, f.x, f.protocol, f.metric, f.mean, spread, len(f.values), "measured"])
    for row, of_paper in printed.items():
        for metric, value in of_paper.items():
            rows.append([row, "", "unmasked", metric, value, "", "", published.SOURCE])
    for protocol, tests in figures.tests.items():
        for test in tests:
            rows += [
                [
                    test.run,
                    "",
                    protocol,
                    f"{test.metric} {what}",
                    value,
                    "",
                    "",
                    f"against {test.against}",
                ]
                for what, value in test._asdict().items()
                if what not in ("run", "against", "metric")
            ]
    return rows


def _run_rows(runs: Sequence[Planned], out: Path) -> list[list[Any]]:
    """One line for each run: what it took, and how to make it again."""
    head = [
        "run",
        "model",
        "seed",
        "epochs",
        "best_epoch",
        "seconds",
        "backend",
        "device",
        "threads",
    ]
    rows: list[list[Any]] = [[*head, "command"]]
    for run in {run.name: run for run in runs}.values():
        result = read_json(run.path(out) / RESULT)
        facts = [result.get(name) for name in ("epochs", "best_epoch")]
        machine = [result.get(name) for name in ("backend", "device", "threads")]
        took = round(seconds_of(run, out), 1)
        rows.append([run.name, run.row.model, run.seed, *facts, took, *machine, run.command(out)])
    return rows
