"""The pictures of the tables: hit rate and NDCG at 20, history not masked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..pictures import COLOURS, MARKS, canvas, save
from . import published
from .figures import Figure, Figures
from .tables import Table

SHOWN = (("hr@20", "HR@20"), ("ndcg@20", "NDCG@20"))
_ALWAYS = ("SASRec", "CL4SRec", "MCLRec")  # have the same colour in every picture


def draw(
    name: str, table: Table, figures: Figures, printed: dict[str, published.Figures], out: Path
) -> list[Path]:
    """Writes NAME.svg and NAME.png; returns their paths.

    Args:
        name: the table's.
        table: what it is.
        figures: what was measured.
        printed: published figures of its rows.
        out: where to.

    Raises:
        InputError: matplotlib is not installed.
    """
    rows = {figure.row for figure in figures.figures}
    height = 1.3 + 0.32 * len(rows) if table.picture == "dots" else 3.4
    with canvas(8.0, height) as picture:
        panels = picture.subplots(1, len(SHOWN), sharey=table.picture == "dots")
        for panel, (metric, label) in zip(panels, SHOWN, strict=True):
            _PICTURES[table.picture](panel, table, figures.of("unmasked", metric), printed, metric)
            panel.set_title(label, fontsize=11)
        picture.suptitle(f"{table.title} (history not masked)", fontsize=11)
        handles, labels = panels[0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return save(picture, out, name)


def _dots(
    panel: Any,
    table: Table,
    figures: Sequence[Figure],
    printed: dict[str, published.Figures],
    metric: str,
) -> None:
    """A line for each row: every seed a dot, their mean a bar, a published figure a diamond."""
    for place, figure in enumerate(figures):
        first = place == 0
        here = [place] * len(figure.values)
        seeds = "one run" if first else None
        panel.plot(figure.values, here, "o", color=COLOURS[0], alpha=0.6, label=seeds)
        mean = "mean of the runs" if first else None
        panel.plot([figure.mean], [place], "|", color="black", ms=15, mew=2, label=mean)
    known = [(printed[f.row][metric], i) for i, f in enumerate(figures) if f.row in printed]
    if known:
        x, y = zip(*known, strict=True)
        panel.plot(x, y, "D", mfc="none", color=COLOURS[1], mew=1.5, label="published")
    panel.set_yticks(range(len(figures)), [figure.row for figure in figures])
    panel.set_ylim(len(figures) - 0.5, -0.5)


def _lines(
    panel: Any,
    table: Table,
    figures: Sequence[Figure],
    printed: dict[str, published.Figures],
    metric: str,
) -> None:
    """A curve for each row over the axis, with the deviation of the seeds; a level without axis."""
    places = list(dict.fromkeys(figure.x for figure in figures if figure.x))
    names = list(dict.fromkeys([*_ALWAYS, *(figure.row for figure in figures)]))
    for row in dict.fromkeys(figure.row for figure in figures):
        number = names.index(row)
        of_row = [figure for figure in figures if figure.row == row]
        colour = COLOURS[number % len(COLOURS)]
        if not of_row[0].x:
            panel.axhline(of_row[0].mean, color=colour, ls="--", lw=1.2, label=row)
            continue
        panel.errorbar(
            [places.index(figure.x) for figure in of_row],
            [figure.mean for figure in of_row],
            [figure.deviation or 0.0 for figure in of_row],
            color=colour,
            marker=MARKS[number % len(MARKS)],
            ms=5,
            capsize=2,
            label=row,
        )
    long = max(map(len, places)) > 4
    panel.set_xticks(range(len(places)), places, rotation=30 if long else 0)
    panel.set_xlabel(table.axis)


_PICTURES: dict[str, Callable[..., None]] = {"dots": _dots, "lines": _lines}
