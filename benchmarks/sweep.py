"""What is measured: cases around one base point, one axis moved at a time.

A benchmark function carries `@sweep(...)`; conftest.py turns that into pytest parameters, at full
or at tiny size. Nothing here measures.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        op: what is measured.
        backend: eager (the best plain PyTorch), compile (the same under torch.compile), reference
            (this package's torch path) or native; numpy or native for the reader.
        direction: forward (no gradient wanted), both (forward and backward) or run (no gradient
            exists).
        axis: the size that was moved away from the base point, or "base".
        batch: rows or sequences (B); users for the rankings.
        classes: item classes (V).
        length: mean sequence length.
        width: hidden size (D).
        rows: lines of the file (reader only).
        device: cpu or cuda.
    """

    op: str
    backend: str
    direction: str
    axis: str = "base"
    batch: int = 256
    classes: int = 12_102
    length: int = 8
    width: int = 64
    rows: int = 1_000_000
    device: str = "cpu"

    @property
    def backward(self) -> bool:
        """Whether gradients are computed."""
        return self.direction == "both"

    @property
    def option(self) -> str:
        """The backend's word in this package's functions."""
        return "native" if self.backend == "native" else "torch"

    def __str__(self) -> str:
        where = "" if self.axis == "base" else f"-{self.axis}={getattr(self, self.axis)}"
        place = "" if self.device == "cpu" else f"{self.device}-"
        return f"{place}{self.backend}-{self.direction}{where}"


FULL: dict[str, list[int]] = {
    "batch": [64, 256, 1024, 4096, 16_384, 65_536],
    "classes": [1000, 12_102, 100_000, 1_000_000],
    "length": [4, 8, 20, 50, 200],
    "width": [32, 64, 128, 256],
    "rows": [100_000, 1_000_000, 10_000_000],
}
TINY = {"batch": [5, 3], "classes": [19, 7], "length": [4, 2], "width": [8, 12], "rows": [50, 20]}


def sweep(
    *axes: str,
    backends: tuple[str, ...] = ("eager", "compile", "reference", "native"),
    directions: tuple[str, ...] = ("forward", "both"),
    devices: tuple[str, ...] = ("cpu", "cuda"),
    **base: int,
) -> Callable[[Function], Function]:
    """Mark a benchmark function `bench_<op>(measure, case)` with the cases it covers.

    Args:
        axes: the sizes that are moved, fields of `Case`.
        backends: who computes.
        directions: forward, both, run.
        devices: where; what is to run on cuda is marked `gpu`.
        base: sizes of this benchmark's base point that differ from `Case`'s.
    """

    def mark(function: Function) -> Function:
        op = function.__name__.removeprefix("bench_")

        def cases(tiny: bool) -> list[Case]:
            sizes: dict[str, Any] = {axis: values[0] for axis, values in TINY.items()}
            sizes = sizes if tiny else dict(base)
            start = [
                Case(op, b, d, device=device, **sizes)
                for device in devices
                for d in directions
                for b in backends
            ]
            found = list(start)
            for axis in axes:
                for value in (TINY if tiny else FULL)[axis]:
                    moved: dict[str, Any] = {"axis": axis, axis: value}
                    for case in start:
                        # Compiling takes longer than measuring: at the base point only.
                        if value != getattr(case, axis) and case.backend != "compile":
                            found.append(replace(case, **moved))
            return found

        function.cases = cases  # type: ignore[attr-defined]
        return function

    return mark
