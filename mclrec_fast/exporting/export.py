"""Exporting: a file for other programs, read back and compared with the model before it is kept.

What stands in a file, and how far it may be from the model; how each kind is written is in
formats.py.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _files
from .._outputs import write_file
from ..config import DEFAULT_K
from ..config_keys import did_you_mean
from ..errors import InputError, RunError
from ..models.base import Model
from ..runs import checkpoint
from .formats import FORMATS, Format, require
from .padded import Answering

HISTORIES = 64
"""How many random histories a file is asked."""
FURTHEST = 1e-4
"""How far a number may be from the model's, as a share of the largest such number."""


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        path: it.
        beside: the file beside it with the item ids; None where they are inside.
        format: its kind.
        items: items in it.
        differences: the largest difference from the model, by what was compared.
        same_lists: of `HISTORIES` random histories, those whose best items are the model's, in its
            order; None for item vectors without a search.
    """

    path: Path
    beside: Path | None
    format: str
    items: int
    differences: dict[str, float]
    same_lists: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        beside = None if self.beside is None else str(self.beside)
        return self._asdict() | {"path": str(self.path), "beside": beside}

    def render(self) -> str:
        """A few lines of text."""
        ids = "inside" if self.beside is None else f"in {self.beside}"
        far = ", ".join(f"{name} {value:.3g}" for name, value in self.differences.items())
        lines = [f"{self.path}: {self.format}, {self.items} items, their ids {ids}"]
        lines.append(f"read back; largest difference from the model: {far}")
        if self.same_lists is not None:
            lines.append(f"the same best items for {self.same_lists} of {HISTORIES} histories")
        return "\n".join(lines)


def export(
    model: Model,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    k: int = DEFAULT_K,
    exclude_seen: bool = True,
) -> Exported:
    """See `Model.export`."""
    model.require_weights()
    out = Path(path)
    format = _format_of(out, format)
    kind = FORMATS[format]
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k must be a whole number from 1, not {k!r}")
    require(format, kind.needs)
    if not out.parent.is_dir() or out.is_dir():
        what = "is a folder" if out.is_dir() else "its folder does not exist"
        raise InputError(f"{out}: {what}; name a file in a folder that exists")
    training = model.training
    model.eval()
    try:
        k = min(k, model.n_classes - 1)
        holds: Any = model.item_embeddings
        if kind.of_model:
            holds = Answering(model, k, exclude_seen)
        says = _says(model, kind, k, exclude_seen)
        with _aside(out) as temporary:
            try:
                kind.write(holds, says, temporary)
                read, said = kind.read(temporary)
            except OSError as error:
                raise RunError(f"cannot write {out}: {error.strerror or error}") from error
            except Exception as error:  # exporters raise errors of many kinds
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                raise RunError(f"{out}: {format} cannot hold this model: {reason}") from error
            if kind.has_room and said != says:
                raise RunError(f"{out}: what it says of itself was not read back as written")
            compare = _compare_answers if kind.of_model else _compare_vectors
            differences, same = compare(model, read, says)
            if format == "faiss":
                differences["scores"], same = _search(model, temporary, k)
            _require_near(out, differences)
            beside = None if kind.has_room else Path(f"{out}.json")
            if beside is not None:
                text = json.dumps(says, ensure_ascii=False, allow_nan=False)
                write_file(beside, f"{text}\n".encode())
            write_file(out, temporary.read_bytes())
    finally:
        model.train(training)
    found = {name: value for name, (value, _) in differences.items()}
    return Exported(out, beside, format, model.n_classes - 1, found, same)


def _format_of(out: Path, format: str | None) -> str:
    if format is None:
        by_suffix = {kind.suffix: name for name, kind in FORMATS.items()}
        if out.suffix not in by_suffix:
            raise InputError(
                f"{out}: its name says no format ({', '.join(by_suffix)}): give one of "
                f"{', '.join(FORMATS)}"
            )
        return by_suffix[out.suffix]
    if format not in FORMATS:
        near = did_you_mean(format, FORMATS)
        raise InputError(f"format {format!r}: expected one of {', '.join(FORMATS)}{near}")
    return format


def _says(model: Model, kind: Format, k: int, exclude_seen: bool) -> dict[str, Any]:
    """What a file says of itself."""
    assert model.item_ids is not None
    says: dict[str, Any] = {
        "model": model.options.name,
        "weights": checkpoint.digest(model.state_dict()),
        "rows_from": 1 if kind.of_model else 0,
    }
    if kind.of_model:
        says |= {"max_length": model.options.max_length, "k": k, "exclude_seen": exclude_seen}
    return says | {"item_ids": model.item_ids[1:].tolist()}


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A path beside the file, gone again in the end."""
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, suffix=_files.SUFFIX) as folder:
            yield Path(folder) / f"export{out.suffix}"
    except PermissionError as error:
        raise InputError(f"{out}: {error.strerror or error}") from None


Differences = dict[str, tuple[float, float]]
"""The largest difference, and the largest number, by what was compared."""


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf"), 1.0
    distance = np.abs(found.astype(np.float64) - expected)
    return float(distance.max(initial=0)), float(np.abs(expected).max(initial=0))


def _require_near(out: Path, differences: Differences) -> None:
    for name, (far, largest) in differences.items():
        if not far <= FURTHEST * max(largest, 1e-30):
            raise RunError(
                f"{out}: not kept: its {name} are up to {far:.3g} away from the model's (the "
                f"largest is {largest:.3g}); was the model's code changed?"
            )


def _compare_vectors(
    model: Model, read: NDArray[Any], says: dict[str, Any]
) -> tuple[Differences, int | None]:
    return {"vectors": _difference(read, model.item_embeddings)}, None


def _histories(model: Model, longest: int) -> list[NDArray[np.int64]]:
    """Random histories as rows of items, of all lengths up to the longest."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(1, longest, HISTORIES).round().astype(int)
    return [rng.integers(1, model.n_classes, length) for length in lengths]


def _compare_answers(model: Model, read: Any, says: dict[str, Any]) -> tuple[Differences, int]:
    """Ask the file and the model for the best items of the same histories."""
    assert model.item_ids is not None
    length, k = says["max_length"], says["k"]
    histories = _histories(model, length)
    padded = np.zeros((len(histories), length), np.int64)
    for row, history in enumerate(histories):
        padded[row, : len(history)] = history
    h, scores, rows = read(padded)
    alone = read(padded[-1:])
    if not all(
        np.allclose(a, b[-1:], rtol=1e-4) for a, b in zip(alone[:2], (h, scores), strict=True)
    ):
        return {"answers to one history": (float("inf"), 1.0)}, 0
    own = [model.item_ids[history].tolist() for history in histories]
    expected = model.recommend(own, k=k, exclude_seen=says["exclude_seen"])
    far, largest, same = 0.0, 0.0, 0
    for row, (items, wanted) in enumerate(zip(expected.items, expected.scores, strict=True)):
        one = _difference(scores[row, : len(items)], np.array(wanted))
        far, largest = max(far, one[0]), max(largest, one[1])
        same += model.item_ids[rows[row, : len(items)]].tolist() == items
    return {"representations": _difference(h, model.encode(own)), "scores": (far, largest)}, same


def _search(model: Model, file: Path, k: int) -> tuple[tuple[float, float], int]:
    """Ask an index for the best items of random histories, as the model recommends them."""
    import faiss

    assert model.item_ids is not None
    own = [model.item_ids[h].tolist() for h in _histories(model, model.options.max_length)]
    found, places = faiss.read_index(str(file)).search(model.encode(own), k)
    expected = model.recommend(own, k=k, exclude_seen=False)
    lists = model.item_ids[places + 1].tolist()
    same = sum(a == b for a, b in zip(lists, expected.items, strict=True))
    return _difference(found, np.array(expected.scores)), same
