"""The figures of a table: every metric of every row over its seeds, and the paired tests."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..comparison import Floats, PairedTest, paired_tests, parse_metrics
from ..console import Console
from ..data import Dataset
from ..metrics import PROTOCOLS, gains
from .looks import LOOKS, whole
from .plan import Planned
from .tables import Table

METRICS = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20")
TESTED = ("hr@10", "ndcg@10")


class Figure(NamedTuple):
    """A metric of a row at a place on the axis, by seed."""

    row: str
    x: str
    protocol: str
    metric: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation over the seeds; None of one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


class Figures(NamedTuple):
    """All of a table: figures in the order of its rows, and tests by protocol."""

    figures: list[Figure]
    tests: dict[str, list[PairedTest]]

    def of(self, protocol: str, metric: str) -> list[Figure]:
        """Those of one metric under one protocol."""
        return [f for f in self.figures if (f.protocol, f.metric) == (protocol, metric)]


def measure(
    table: Table, runs: Sequence[Planned], out: Path, dataset: Dataset, console: Console
) -> Figures:
    """Look at every run of a table; all must be finished.

    Args:
        table: how to look.
        runs: its runs.
        out: the results' directory.
        dataset: what they trained on.
        console: where progress is shown.
    """
    found: dict[tuple[str, str, str, str], list[float]] = {}
    with console.progress("looking at the runs", len(runs)) as advance:
        for run in runs:
            for view in LOOKS[table.look](run, out, dataset):
                for protocol in PROTOCOLS:
                    for metric, (name, k) in zip(METRICS, parse_metrics(METRICS), strict=True):
                        value = float(np.mean(gains(view.ranks[protocol], name, k)))
                        key = (run.row.name, view.x, protocol, metric)
                        found.setdefault(key, []).append(value)
            advance(1)
    figures = [Figure(*key, tuple(values)) for key, values in found.items()]
    tests = {protocol: _tests(table, runs, out, dataset, protocol) for protocol in PROTOCOLS}
    return Figures(figures, tests)


def _tests(
    table: Table, runs: Sequence[Planned], out: Path, dataset: Dataset, protocol: str
) -> list[PairedTest]:
    """Every row against one, user by user: what a user earns is the mean over the seeds."""
    if not table.against:
        return []
    earned: dict[str, dict[str, Floats]] = {}
    made_of: dict[str, list[str]] = {}
    for row in table.rows:
        of_row = [run for run in runs if run.row == row]
        made_of[row.name] = [run.name for run in of_row]
        ranks = [whole(run, out, dataset)[0].ranks[protocol] for run in of_row]
        earned[row.name] = {
            metric: np.mean([gains(of_seed, name, k) for of_seed in ranks], axis=0)
            for metric, (name, k) in zip(TESTED, parse_metrics(TESTED), strict=True)
        }
    others = [name for name in earned if made_of[name] != made_of[table.against]]
    return paired_tests(earned, [(name, table.against) for name in others])
