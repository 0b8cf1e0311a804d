"""The pictures of a diagnosis: spectra, the course over the epochs, the views on a plane."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..pictures import COLOURS, MARKS, canvas, in_rows, legend, line, save
from .geometry import plane
from .look import Diagnosis

TITLES = {
    "h": "sequences (h)",
    "items": "items",
    "h1": "views of the encoder (h1)",
    "h2": "views of the encoder (h2)",
    "z1": "views of the augmenter (z1)",
    "z2": "views of the augmenter (z2)",
}
_SPECTRA = ("h", "items", "h1", "z1")  # h2 and z2 look like their twins
_DOTS = 400  # of each view


class Diagnosed(NamedTuple):
    """One run: its name, what was found, and the records of its epochs that hold a diagnosis."""

    name: str
    found: Diagnosis
    epochs: Sequence[Mapping[str, Any]]


def draw(runs: Sequence[Diagnosed], out: Path) -> list[Path]:
    """Writes every picture that the runs have figures for; returns their paths.

    Raises:
        InputError: matplotlib is not installed.
    """
    paths = _spectra(runs, out)
    if any(run.epochs for run in runs):
        paths += _epochs([run for run in runs if run.epochs], out)
    for run in runs:
        if run.found.views:
            paths += _views(run, f"views-{run.name}" if len(runs) > 1 else "views", out)
    return paths


def _spectra(runs: Sequence[Diagnosed], out: Path) -> list[Path]:
    """The singular values of each set, the largest as 1: a steep fall is a collapse."""
    shown = [name for name in _SPECTRA if any(name in run.found.figures["sets"] for run in runs)]
    with in_rows(len(shown), sharey=True) as (picture, panels):
        for panel, name in zip(panels, shown, strict=True):
            for number, run in enumerate(runs):
                if name in run.found.figures["sets"]:
                    values = run.found.figures["sets"][name]["singular_values"]
                    largest = values[0] or 1.0
                    # A logarithm has no zero: what is below a thousandth is drawn there.
                    heights = [max(value / largest, 1e-3) for value in values]
                    ranks = range(1, len(values) + 1)
                    panel.plot(ranks, heights, **line(number), label=run.name)
            panel.set_yscale("log")
            panel.set_title(TITLES[name], fontsize=10)
            panel.set_xlabel("singular value")
            if panel.get_subplotspec().is_first_col():
                panel.set_ylabel("relative to the largest")
        legend(picture, panels)
        return save(picture, out, "spectra")


def _epochs(runs: Sequence[Diagnosed], out: Path) -> list[Path]:
    """Effective rank, uniformity and alignment over the epochs."""
    curves: list[tuple[str, Callable[[Mapping[str, Any]], float | None]]] = [
        ("effective rank of h", lambda d: d["sets"]["h"]["effective_rank"]),
        ("uniformity of h", lambda d: d["sets"]["h"]["uniformity"]),
        ("alignment of h and target", lambda d: d["alignment"]["h target"]),
        ("alignment of h1 and h2", lambda d: d["alignment"].get("h1 h2")),
        ("effective rank of z1", lambda d: d["sets"].get("z1", {}).get("effective_rank")),
    ]
    have = [
        (title, value)
        for title, value in curves
        if any(value(record["diagnosis"]) is not None for run in runs for record in run.epochs)
    ]
    with in_rows(len(have)) as (picture, panels):
        for panel, (title, value) in zip(panels, have, strict=True):
            for number, run in enumerate(runs):
                points = [(record["epoch"], value(record["diagnosis"])) for record in run.epochs]
                there = [(x, y) for x, y in points if y is not None]
                if there:
                    panel.plot(*zip(*there, strict=True), **line(number), label=run.name)
            panel.set_title(title, fontsize=10)
            panel.set_xlabel("epoch")
        legend(picture, panels)
        return save(picture, out, "epochs")


def _views(run: Diagnosed, name: str, out: Path) -> list[Path]:
    """Every view of the same histories, of unit length, on the plane in which they vary most."""
    spots, share = plane(run.found.views)
    with canvas(5.4, 4.6) as picture:
        panel = picture.subplots()
        for number, (view, places) in enumerate(spots.items()):
            x, y = places[:_DOTS].T.tolist()
            look = {"color": COLOURS[number], "ms": 4, "alpha": 0.6, "mew": 0}
            panel.plot(x, y, MARKS[number], label=TITLES[view], **look)
        title = f"{run.name}\n(a plane with {share:.0%} of the views' variance)"
        panel.set_title(title, fontsize=10)
        panel.set_aspect("equal", "datalim")
        legend(picture, [panel], columns=2)
        return save(picture, out, name)
