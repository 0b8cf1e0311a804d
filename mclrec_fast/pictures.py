"""How every picture of this package looks, and how it is written: SVG and PNG, by matplotlib.

Colours are Okabe and Ito's, told apart by the colour-blind; marks and dashes tell the same. The
same figures give the same bytes, whatever this process or this user has set in matplotlib.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._outputs import write_file
from .errors import InputError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "x")
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "mclrec_fast",
    "svg.fonttype": "path",
}


def require_matplotlib() -> Any:
    """matplotlib, of the `plots` extra, drawing into memory.

    Raises:
        InputError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            'no pictures without matplotlib: pip install "mclrec_fast[plots]"'
        ) from None
    matplotlib.use("agg")
    return matplotlib


@contextmanager
def canvas(width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure of this package's looks, in inches; keep it while this is entered."""
    matplotlib = require_matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield Figure(figsize=(width, height), layout="constrained")


@contextmanager
def in_rows(count: int, **shared: bool) -> Iterator[tuple[Any, list[Any]]]:
    """A figure of so many panels, and the panels; in rows, so that a page does not shrink it.

    Args:
        count: how many, at least 1.
        shared: what axes share, as `sharey`.
    """
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    with canvas(2.6 * columns + 0.6 if columns < 3 else 8.4, 2.6 * rows + 0.5) as picture:
        panels = picture.subplots(rows, columns, squeeze=False, **shared).ravel()
        for empty in panels[count:]:
            empty.remove()
        yield picture, list(panels[:count])


def save(figure: Any, out: Path, name: str) -> list[Path]:
    """Writes NAME.svg and NAME.png into `out`; returns their paths."""
    paths = []
    for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 150})):
        content = io.BytesIO()
        figure.savefig(content, format=kind, **options)
        paths.append(out / f"{name}.{kind}")
        write_file(paths[-1], content.getvalue())
    return paths


def line(number: int) -> dict[str, Any]:
    """How the line of a run is drawn."""
    style = ("-", "--", "-.", ":")[number // len(COLOURS) % 4]
    return {"color": COLOURS[number % len(COLOURS)], "ls": style, "lw": 1.5}


def legend(picture: Any, panels: Sequence[Any], columns: int | None = None) -> None:
    """One legend for all panels, below; four fit a line, more stand three a line."""
    named: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if columns is None:
        columns = 4 if len(named) == 4 and max(map(len, named)) < 20 else 3
    picture.legend(
        named.values(), named, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
