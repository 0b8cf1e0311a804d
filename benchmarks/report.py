"""`python -m benchmarks.report out.json`: the README's tables, and plots, from a benchmark run.

Reads what `pytest benchmarks/ --benchmark-json=out.json` wrote; several files are joined (the
1-thread and the 2-thread run, say). Measures nothing. Tables go to stdout as Markdown; plots need
matplotlib (pip install ".[plots]").
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AXES = ("batch", "classes", "length", "width", "rows")
BACKENDS = ("eager", "compile", "reference", "numpy", "native")
TITLES = {
    "eager": "PyTorch",
    "compile": "torch.compile",
    "reference": "our torch path",
    "numpy": "numpy twin",
    "native": "native",
}
DIRECTIONS = {"forward": "forward", "both": "forward + backward", "run": ""}


@dataclass(frozen=True)
class Row:
    """One measured case."""

    info: dict[str, Any]
    median_ms: float
    min_ms: float

    @property
    def place(self) -> str:
        """Where it ran: "GPU" or a number of threads."""
        return "GPU" if self.info.get("device", "cpu") == "cuda" else str(self.info["threads"])

    @property
    def precision(self) -> str:
        """What its products round to; files from before that could be chosen do not say."""
        return str(self.info.get("precision") or "float32")

    @property
    def order(self) -> tuple[int, bool, str]:
        """Its place among rows of one case."""
        return BACKENDS.index(self.backend), self.precision != "float32", self.precision

    @property
    def title(self) -> str:
        """Who computed, and rounding to what."""
        rounded = "" if self.precision == "float32" else f" {self.precision}"
        return TITLES[self.backend] + rounded

    def __getattr__(self, name: str) -> Any:
        try:
            return self.info[name]
        except KeyError:
            raise AttributeError(name) from None


def read(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], list[Row]]:
    """The machines and the rows of benchmark files.

    Raises:
        SystemExit: A file is missing or is not a benchmark result of this project.
    """
    machines, rows = [], []
    for path in paths:
        try:
            content = json.loads(path.read_text())
            machines.append(content["machine_info"] | {"datetime": content["datetime"]})
            for row in content["benchmarks"]:
                stats = row["stats"]
                info = dict.fromkeys(AXES) | row["extra_info"]
                rows.append(Row(info, 1e3 * stats["median"], 1e3 * stats["min"]))
                _ = rows[-1].op, rows[-1].backend
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            sys.exit(f"{path}: not the --benchmark-json of this project's benchmarks ({error!r})")
    return machines, rows


def machine_lines(machines: Iterable[dict[str, Any]]) -> list[str]:
    """One sentence about each machine and number of threads: its clock, how busy it was, when."""
    alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for machine in machines:
        gpu = f", {machine['gpu_name']}" if machine.get("gpu_name") else ""
        threads, torch = machine.get("threads"), machine.get("torch_version")
        isa = f", {machine['isa']}" if machine.get("isa") else ""
        name = f"{machine.get('cpu_name')}{gpu}{isa}, {threads} thread(s), torch {torch}"
        alike[name].append(machine)
    lines = []
    for name, runs in alike.items():
        peaks = [run["fma_peak_gflops"] for run in runs if run.get("fma_peak_gflops")]
        clock = f"multiply-add peak {_span(peaks)} GFLOP/s" if peaks else "no multiply-add peak"
        load = _span([run.get("load_average", 0) for run in runs])
        times = sorted(run.get("datetime", "")[:16] for run in runs)
        when = " to ".join(dict.fromkeys((times[0], times[-1])))
        lines.append(f"{name}, {clock}, load average {load} at the start, {when}")
    return lines


def _span(values: Sequence[float]) -> str:
    """The smallest and the largest, or the one."""
    return " to ".join(dict.fromkeys(f"{value:.1f}" for value in (min(values), max(values))))


def _words(place: str) -> str:
    return place if place == "GPU" else f"{place} thread(s)"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column left-aligned, the others right-aligned."""
    rows = [list(header), ["---"] + ["---:"] * (len(header) - 1), *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def number(value: float | None) -> str:
    """Three significant digits, no exponent; empty when there is none."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _baseline(rows: list[Row]) -> Row | None:
    """What the others are compared with: plain PyTorch, or the slower twin."""
    by_backend = {row.backend: row for row in rows if row.precision == "float32"}
    return next((by_backend[b] for b in ("eager", "reference", "numpy") if b in by_backend), None)


def _groups(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows that differ by backend and precision only, in the order of BACKENDS."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        sizes = tuple(getattr(row, axis) for axis in AXES)
        found[(row.op, row.direction, row.place, *sizes)].append(row)
    for group in found.values():
        group.sort(key=lambda row: row.order)
    return dict(
        sorted(found.items(), key=lambda item: (item[0][0], item[0][1] == "both", item[0][2]))
    )


def base_table(rows: list[Row]) -> str:
    """Every op at its base point: time, speed-up, share of the peak, memory."""
    lines = []
    for group in _groups(row for row in rows if row.axis == "base").values():
        baseline = _baseline(group)
        for row in group:
            lines.append(
                [
                    f"{row.op} {DIRECTIONS[row.direction]}".strip(),
                    row.place,
                    row.title,
                    number(row.median_ms),
                    number(baseline.median_ms / row.median_ms if baseline else None),
                    number(row.gflops),
                    number(row.percent_of_peak),
                    number(row.added_memory_mb),
                ]
            )
    header = ["op", "threads", "backend", "ms", "speed-up", "GFLOP/s", "% of peak", "MB added"]
    return table(header, lines)


def _titles(rows: Iterable[Row]) -> list[str]:
    """Who computed any of these rows, in order."""
    return list(dict.fromkeys(row.title for row in sorted(rows, key=lambda row: row.order)))


def axis_tables(rows: list[Row]) -> str:
    """One table per op, direction and moved size: ms of each backend, native's speed and share."""
    parts = []
    moved = sorted({(r.op, r.direction, r.place, r.axis) for r in rows if r.axis != "base"})
    for op, direction, place, axis in moved:
        same = [r for r in rows if (r.op, r.direction, r.place) == (op, direction, place)]
        chosen = [row for row in same if row.axis in (axis, "base")]
        titles = _titles(chosen)
        lines = []
        for value in sorted({getattr(row, axis) for row in chosen}):
            at = {row.title: row for row in chosen if getattr(row, axis) == value}
            line = [f"{value:,}".replace(",", " ")]
            line += [number(at[title].median_ms) if title in at else "" for title in titles]
            native, baseline = at.get(TITLES["native"]), _baseline(list(at.values()))
            faster = baseline.median_ms / native.median_ms if native and baseline else None
            share = native.percent_of_peak if native else None
            lines.append([*line, number(faster), number(share)])
        title = f"**{op} {DIRECTIONS[direction]}".strip() + f", {_words(place)}, by {axis}**"
        header = [axis, *(f"{title} ms" for title in titles), "speed-up", "native % of peak"]
        parts.append(f"{title}\n\n{table(header, lines)}")
    return "\n\n".join(parts)


def plot(rows: list[Row], folder: Path) -> list[Path]:
    """One figure per op and thread count: ms against each moved size, a line per backend.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for op, place in sorted({(row.op, row.place) for row in rows}):
        mine = [row for row in rows if (row.op, row.place) == (op, place)]
        directions = sorted({row.direction for row in mine}, reverse=True)
        axes = [axis for axis in AXES if any(row.axis == axis for row in mine)]
        if len({getattr(row, axis) for row in mine for axis in axes}) < 2:
            continue  # nothing was moved
        figure, panels = pyplot.subplots(
            len(directions), len(axes), squeeze=False, sharey="row",
            figsize=(3.4 * len(axes), 2.8 * len(directions)), layout="constrained",
        )  # fmt: skip
        for line, direction in zip(panels, directions, strict=True):
            for panel, axis in zip(line, axes, strict=True):
                _draw(panel, [row for row in mine if row.direction == direction], axis)
            line[0].set_ylabel(f"{DIRECTIONS[direction]} ms".strip())
        panels[0][0].legend(fontsize="small")
        figure.suptitle(f"{op}, {_words(place)}")
        written.append(folder / f"{op}_{place}.svg")
        figure.savefig(written[-1], metadata={"Date": None})
        pyplot.close(figure)
    return written


def _draw(panel: Any, rows: list[Row], axis: str) -> None:
    sizes = set()
    drawn = [row for row in rows if row.axis in (axis, "base")]
    for title in _titles(drawn):
        points = sorted((getattr(r, axis), r.median_ms) for r in drawn if r.title == title)
        style = "o" if len(points) == 1 else "o-"
        panel.plot(*zip(*points, strict=True), style, label=title, markersize=3)
        sizes |= {size for size, _ in points}
    panel.set(xscale="log", yscale="log", xlabel=axis)
    panel.set_xticks([], minor=True)
    panel.set_xticks(sorted(sizes), [f"{size:,}".replace(",", " ") for size in sorted(sizes)])
    panel.tick_params(axis="x", labelsize="x-small")
    panel.grid(alpha=0.3)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, read, print, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw, into this folder")
    parser.add_argument("--short", action="store_true", help="the base points only")
    arguments = parser.parse_args(argv)
    machines, rows = read(arguments.files)
    print("\n".join(f"- {line}" for line in machine_lines(machines)))
    print(f"\n{base_table(rows)}")
    if not arguments.short:
        print(f"\n{axis_tables(rows)}")
    if arguments.plots is None:
        return 0
    try:
        written = plot(rows, arguments.plots)
    except ImportError:
        print('error: plots need matplotlib: pip install ".[plots]"', file=sys.stderr)
        return 2
    print("\n".join(f"wrote {path}" for path in written), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
