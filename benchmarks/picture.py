"""`python -m benchmarks.picture`: the README's picture, drawn from the README's own tables.

The figures stand in the README alone (the tables behind `<!-- figures: ... -->`); they are also
kept as text inside the SVG, so that a test sees when the picture is older than they are. Measures
nothing. Needs matplotlib.
"""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/plots/first_look.svg"

# Okabe and Ito's blue on grey: told apart by everybody, and in print.
_OURS, _OTHERS = "#0072B2", "#B3B3B3"


class Bar(NamedTuple):
    """One bar: what it is called, how long it is, and whether it is this package's."""

    name: str
    value: float
    ours: bool


def table(text: str, which: str) -> list[list[str]]:
    """The rows, header first, of the README's table behind `<!-- figures: which -->`.

    Raises:
        ValueError: there is no such table.
    """
    found = re.search(rf"<!-- figures: {which} -->\n((?:\|.*\n)+)", text)
    if found is None:
        raise ValueError(f"README.md has no table behind <!-- figures: {which} -->")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return [rows[0], *rows[2:]]


def bars(text: str) -> dict[str, list[Bar]]:
    """Milliseconds of a batch, and HR@20, as the README has them."""
    header, *rows = table(text, "batch")
    schedule, threads, ms = (header.index(name) for name in ("schedule", "threads", "ms"))
    batch = [
        Bar(row[0], float(row[ms].replace(" ", "")), not row[0].startswith("authors"))
        for row in rows
        if row[schedule] == "official" and row[threads] == "2"
    ]
    header, *rows = table(text, "accuracy")
    hit_rate = header.index("HR@20")
    accuracy = [Bar(row[0], float(row[hit_rate]), "published" not in row[0]) for row in rows]
    return {"ms": batch, "HR@20": accuracy}


def as_text(figures: dict[str, list[Bar]]) -> str:
    """What the SVG says of its own figures."""
    return "; ".join(
        f"{unit}: " + ", ".join(f"{bar.name} {bar.value:g}" for bar in of)
        for unit, of in figures.items()
    )


def draw(figures: dict[str, list[Bar]], path: Path) -> None:
    """Write the picture; the same figures give the same file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "path", "svg.hashsalt": "mclrec_fast", "font.size": 10}
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 2.7), layout="constrained")
    _panel(left, figures["ms"], "Time of one training batch, ms", "{:,.0f}")
    _panel(right, figures["HR@20"], "Hit rate at 20, Amazon Beauty", "{:.4f}")
    left.text(1, 0.04, "blue: mclrec_fast", transform=left.transAxes, ha="right", color=_OURS)
    metadata = {"Date": None, "Title": "mclrec_fast", "Description": as_text(figures)}
    figure.savefig(path, metadata=metadata, facecolor="white")
    pyplot.close(figure)
    # matplotlib ends lines with blanks.
    lines = (line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _panel(panel: Any, of: list[Bar], title: str, number: str) -> None:
    """Horizontal bars, the first on top, each with its value behind it."""
    places = range(len(of), 0, -1)
    colours = [_OURS if bar.ours else _OTHERS for bar in of]
    drawn = panel.barh(places, [bar.value for bar in of], color=colours, height=0.72)
    labels = [number.format(bar.value).replace(",", " ") for bar in of]
    panel.bar_label(drawn, labels, padding=4)
    panel.set_yticks(places, [bar.name for bar in of])
    panel.set_title(title, loc="left", fontsize=11, fontweight="bold")
    panel.set_xlim(0, 1.16 * max(bar.value for bar in of))
    panel.xaxis.set_visible(False)
    panel.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)


def main() -> int:
    """Draw it anew; returns the exit code."""
    figures = bars((ROOT / "README.md").read_text(encoding="utf-8"))
    draw(figures, PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {as_text(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
