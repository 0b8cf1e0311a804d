"""Runs as pictures: their course over the epochs, and whom they serve well.

From what runs keep; for histories and popularities their logs are read again. No model is loaded
and nothing is ranked.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .comparison import read_ranks
from .console import Console
from .data import Dataset
from .errors import InputError
from .metrics import gains
from .pictures import canvas, legend, line, save
from .runs.directory import METRICS
from .runs.loading import read_config
from .runs.other import OwnLog, read_own

_UPDATES = ("encoder", "augmenter", "encoder_again")  # sums of the terms beside them
_LENGTHS = (1, 2, 3, 5, 8, 13, 21, 51)  # where groups of histories begin
_SHARES = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)  # where groups of items begin, the most popular first
_FEWEST = 5  # targets of a group that is drawn


class Group(NamedTuple):
    """Some targets: what they share, how many they are, their mean metric and its 95 % interval."""

    label: str
    size: int
    mean: float
    half: float


class Plotted(NamedTuple):
    """What is drawn of a run.

    Attributes:
        name: what it is called.
        epochs: the records of metrics.jsonl; none for a model without epochs.
        lengths, popularity: its test targets by the length of the history, and by the place of the
            target among all items by popularity; None where its log cannot be had.
    """

    name: str
    epochs: list[dict[str, Any]]
    lengths: list[Group] | None
    popularity: list[Group] | None


class Wanted(NamedTuple):
    """Which metric is drawn: its name and cut-off, under which protocol, of which split."""

    metric: str
    k: int
    protocol: str
    split: str

    def __str__(self) -> str:
        return f"{self.metric}@{self.k}"


def look(
    paths: Sequence[Path], names: Sequence[str], wanted: Wanted, console: Console
) -> list[Plotted]:
    """Reads what the pictures need of runs.

    Raises:
        InputError: there is no run, or its files are damaged.
    """
    logs: dict[str, OwnLog] = {}
    found = []
    for path, name in zip(paths, names, strict=True):
        config = read_config(path)
        epochs = _epochs(path / METRICS)
        lengths = popularity = None
        if (path / f"{wanted.split}_ranks.npz").exists():
            key = repr(config.data)
            if key not in logs:
                with console.waiting("reading the log"):
                    logs[key] = read_own(path, config)
            dataset, why_not = logs[key]
            if dataset is None:
                console.line(f"note: {name}: by length and popularity, nothing: {why_not}")
            else:
                lengths, popularity = _groups(path, dataset, wanted)
        else:
            console.line(
                f"note: {name}: by length and popularity, nothing: no {wanted.split} ranks are kept"
            )
        found.append(Plotted(name, epochs, lengths, popularity))
    return found


def _epochs(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        records = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        for record in records:
            record["epoch"], record["loss"], record["valid"]
        return records
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: damaged: {type(error).__name__}: {error}") from None


def _groups(
    path: Path, dataset: Dataset, wanted: Wanted
) -> tuple[list[Group], list[Group]] | tuple[None, None]:
    """The targets of a split by the length of the history, and by the target's popularity."""
    ranks = read_ranks(path, wanted.split)
    samples = getattr(dataset.split, wanted.split)
    if samples is None or not np.array_equal(samples.users, ranks.users):
        raise InputError(f"RUN {path}: its ranks are not those of its log; evaluate it again")
    earned = gains(ranks.of(wanted.protocol), wanted.metric, wanted.k)
    log = dataset.log
    targets = log.items[log.offsets[samples.users] + samples.ends]
    by_length = np.searchsorted(_LENGTHS, samples.ends, side="right") - 1
    last = [f"{a}-{b - 1}" if b > a + 1 else f"{a}" for a, b in pairwise(_LENGTHS)]
    labels = [*last, f"{_LENGTHS[-1]}+"]
    order = np.argsort(-dataset.training_counts()[1:], kind="stable")
    place = np.empty(len(order))
    place[order] = np.arange(len(order)) / len(order)  # 0: the most popular
    by_place = np.searchsorted(_SHARES, place[targets - 1], side="right") - 1
    shares = [
        f"top {b:.0%}" if a == 0 else "rest" if b == 1 else f"{a:.0%}-{b:.0%}"
        for a, b in pairwise(_SHARES)
    ]
    return _means(earned, by_length, labels), _means(earned, by_place, shares)


def _means(
    earned: NDArray[np.floating[Any]], group: NDArray[np.int64], labels: Sequence[str]
) -> list[Group]:
    found = []
    for number, label in enumerate(labels):
        own = earned[group == number]
        if len(own) >= _FEWEST:
            half = 1.96 * float(own.std()) / len(own) ** 0.5
            found.append(Group(label, len(own), float(own.mean()), half))
    return found


def figures(runs: Sequence[Plotted], wanted: Wanted) -> dict[str, Any]:
    """What is drawn, as plain values."""

    def plain(groups: list[Group] | None) -> list[dict[str, Any]] | None:
        return None if groups is None else [group._asdict() for group in groups]

    return {
        "metric": str(wanted),
        "protocol": wanted.protocol,
        "split": wanted.split,
        "runs": {
            run.name: {"lengths": plain(run.lengths), "popularity": plain(run.popularity)}
            for run in runs
        },
    }


def draw(runs: Sequence[Plotted], wanted: Wanted, out: Path) -> list[Path]:
    """Writes every picture that the runs have figures for; returns their paths.

    Raises:
        InputError: matplotlib is not installed, or no run has anything to draw.
    """
    paths: list[Path] = []
    curves = [run for run in runs if run.epochs]
    if curves:
        paths += _curves(curves, runs, wanted, out)
    grouped = [run for run in runs if run.lengths is not None]
    if grouped:
        paths += _bars(grouped, runs, wanted, out)
    if not paths:
        raise InputError("nothing to draw: the runs have neither epochs nor ranks")
    return paths


def _curves(
    runs: Sequence[Plotted], everyone: Sequence[Plotted], wanted: Wanted, out: Path
) -> list[Path]:
    """Losses and the metric of the validation over the epochs; the best epoch is marked."""
    numbers = {run.name: number for number, run in enumerate(everyone)}
    measured = [run for run in runs if any(_valid(record, wanted) for record in run.epochs)]
    with canvas(8.0, 3.6) as picture:
        left, right = picture.subplots(1, 2)
        if len(everyone) == 1:
            _terms(left, runs[0])
        else:
            for run in runs:
                _curve(left, run, numbers[run.name], lambda record: _first_term(record["loss"]))
            left.set_title("loss against the catalogue, training", fontsize=10)
            left.set_ylabel("loss")
        for run in measured:
            _curve(right, run, numbers[run.name], lambda record: _valid(record, wanted))
            best = run.epochs[-1].get("best_epoch")
            at = [(r["epoch"], _valid(r, wanted)) for r in run.epochs if r["epoch"] == best]
            if at and at[0][1] is not None:
                colour = line(numbers[run.name])["color"]
                right.plot(*at[0], "o", color=colour, ms=6, mfc="white", mew=1.5)
        right.set_title(f"{wanted}, validation, {wanted.protocol}", fontsize=10)
        if not measured:
            right.text(0.5, 0.5, "not measured", ha="center", transform=right.transAxes)
        for panel in (left, right):
            panel.set_xlabel("epoch")
        if len(everyone) == 1:
            left.legend(fontsize=9)
        else:
            legend(picture, [left, right])
        return save(picture, out, "curves")


def _terms(panel: Any, run: Plotted) -> None:
    """Every term of the losses of one run that counts: one of weight 0 is 0 in all epochs."""
    names = [name for name in run.epochs[0]["loss"] if name not in _UPDATES]
    for number, name in enumerate(names or run.epochs[0]["loss"]):
        points = [(record["epoch"], record["loss"][name]) for record in run.epochs]
        if not any(value for _, value in points):
            continue
        look = line(number) | {"ls": ("-", "--", "-.", ":")[number % 4]}  # some lie on others
        panel.plot(*zip(*points, strict=True), **look, label=name)
    panel.set_title("terms of the loss, training", fontsize=10)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("{x:g}")


def _curve(panel: Any, run: Plotted, number: int, value: Any) -> None:
    points = [(record["epoch"], value(record)) for record in run.epochs]
    there = [(x, y) for x, y in points if y is not None]
    if there:
        marker = {"marker": "."} if len(there) < 3 else {}
        panel.plot(*zip(*there, strict=True), **line(number), **marker, label=run.name)


def _first_term(loss: Mapping[str, float]) -> float | None:
    return loss.get("rec", next(iter(loss.values()), None))


def _valid(record: Mapping[str, Any], wanted: Wanted) -> float | None:
    valid = record["valid"]
    found = None if valid is None else valid[wanted.protocol].get(str(wanted))
    return None if found is None else float(found)


def _bars(
    runs: Sequence[Plotted], everyone: Sequence[Plotted], wanted: Wanted, out: Path
) -> list[Path]:
    """The metric by the length of the history and by the popularity of the target."""
    numbers = {run.name: number for number, run in enumerate(everyone)}
    with canvas(8.0, 3.8) as picture:
        panels = picture.subplots(1, 2, sharey=True)
        for panel, part, title in (
            (panels[0], "lengths", "items in the history"),
            (panels[1], "popularity", "target among all items, by popularity"),
        ):
            groups = {run.name: getattr(run, part) for run in runs}
            labels = list(dict.fromkeys(g.label for of in groups.values() for g in of))
            order = {g.label: g.size for of in groups.values() for g in reversed(of)}
            for shift, (name, of) in enumerate(groups.items()):
                # Side by side, so that intervals do not hide each other.
                aside = 0.12 * (shift - (len(groups) - 1) / 2)
                panel.errorbar(
                    [labels.index(g.label) + aside for g in of],
                    [g.mean for g in of],
                    [g.half for g in of],
                    **line(numbers[name]),
                    marker="o",
                    ms=4,
                    capsize=2,
                    label=name,
                )
            ticks = [f"{label}\n{order[label]:,}".replace(",", " ") for label in labels]
            panel.set_xticks(range(len(labels)), ticks, fontsize=8)
            panel.set_xlabel(f"{title}\n(below: targets)", fontsize=9)
        panels[0].set_ylabel(f"{wanted}, {wanted.split}, {wanted.protocol}")
        if len(everyone) > 1:
            legend(picture, panels)
        return save(picture, out, "groups")
