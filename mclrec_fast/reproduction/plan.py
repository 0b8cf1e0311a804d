"""From a table to its runs: what each is called, where it lies, whether it is there already.

Everything that can be wrong is found here, before anything is run.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Resolved, checked, keys_of, to_dict
from ..config_former import today
from ..config_keys import Given, show
from ..data import Dataset
from ..errors import InputError
from ..runs.directory import CONFIG, DATA, RESULT, RunDirectory, read_json
from .tables import Row, Table

Resolve = Callable[[dict[str, Given]], Resolved]

_FREE = (
    "data", "reader", "user_ids", "threads", "device", "backend", "cuda_graphs", "eval_batch_size",
    "checkpoint_steps", "tracker", "diagnose_every",
)  # fmt: skip
"""Keys in which a run that is there may differ: where the file lies, and who computes."""

_BY_CHECKSUM = ("dataset",)
"""More of them: a file and the data set of that name are one by their checksum. But a run that goes
on goes on with what it began with."""


@dataclass(frozen=True)
class Planned:
    """One run of a table.

    Attributes:
        row: whose figures it gives.
        seed: of everything random in it.
        given: what makes its configuration, by key name.
        resolved: that configuration.
        name: what its directory is called: the model, what differs from the model as the data set
            and the command line have it, the seed.
    """

    row: Row
    seed: int
    given: Mapping[str, Given]
    resolved: Resolved
    name: str

    def path(self, out: Path) -> Path:
        """Its directory."""
        return out / "runs" / self.name

    def command(self, out: Path) -> str:
        """What to type to make this run alone."""
        words = ["mclrec-fast", "train"]
        for name, given in self.given.items():
            key, value = keys_of(self.row.model)[name], given.value
            text = "none" if value is None else show(value)
            if not key.flag:
                words += ["--set", f"{name}={text}"]
            elif key.kind is bool:
                words.append(key.option if value else key.option.replace("--", "--no-", 1))
            else:
                words += [key.option, text]
        return shlex.join([*words, "--out", str(self.path(out))])


def parse_seeds(text: str) -> list[int]:
    """Seeds separated by commas.

    Raises:
        InputError: something else, or one twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(f"--seeds {text!r}: expected whole numbers from 0, as 1,2,3")
    seeds = [int(word) for word in words]
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise InputError(f"--seeds {text!r}: {seed} is given twice, and would be the same run")
    return seeds


def plan(
    name: str, table: Table, seeds: Sequence[int], given: Mapping[str, Given], resolve: Resolve
) -> list[Planned]:
    """Every run of a table, rows in order and seeds inside a row; two rows may share one.

    Args:
        name: the table's, for messages.
        table: the table.
        seeds: one run each.
        given: what the command line says, checked, by key name.
        resolve: makes a configuration of given values, as for a run of `mclrec-fast train`.

    Raises:
        InputError: something given that no row can take, or a configuration that cannot be.
    """
    for key, value in given.items():
        able = [row for row in table.rows if key in keys_of(row.model)]
        if key == "seed":
            raise InputError(f"{value.origin}: a table has one run for each of --seeds")
        if not able:
            raise InputError(f"{value.origin}: no model of the table {name} has {key}")
        if key == "model" or all(key in row.settings for row in able):
            raise InputError(f"{value.origin}: the table {name} decides on {key} itself")
    return [
        _planned(row, seed, given, resolve)
        for row in table.rows
        for seed in (seeds if row.seeded else seeds[:1])
    ]


def _planned(row: Row, seed: int, given: Mapping[str, Given], resolve: Resolve) -> Planned:
    keys = keys_of(row.model)
    common = {name: value for name, value in given.items() if name in keys}
    common |= {"model": Given(row.model, "the table"), "seed": Given(seed, "--seeds")}
    own = {name: Given(value, f"row {row.name!r}") for name, value in row.settings.items()}
    values = checked(common | own)
    resolved = resolve(values)
    without = _flat(resolve(checked(common)))
    mine = _flat(resolved)
    differing = [f"{name}={show(mine[name])}" for name in own if mine[name] != without[name]]
    return Planned(row, seed, values, resolved, "-".join([row.model, *differing, f"seed{seed}"]))


def _flat(resolved: Resolved) -> dict[str, Any]:
    return {name: v for part in to_dict(resolved.config).values() for name, v in part.items()}


def is_finished(run: Planned, out: Path, dataset: Dataset) -> bool:
    """Whether a run is there and done; one that is there must be this very run.

    Raises:
        InputError: a run of other settings or other data lies there, or a damaged one.
    """
    path = run.path(out)
    if not (path / CONFIG).exists():
        RunDirectory.check_free(path)
        return False
    there: dict[str, Any] = {}
    for part in _mapping(path / CONFIG).values():
        there |= part if isinstance(part, dict) else {}
    there = today(there, str(path / CONFIG))
    for name, value in _flat(run.resolved).items():
        # A key may be younger than the run.
        kept = there.get(name, keys_of(run.row.model)[name].default)
        kept = tuple(kept) if isinstance(kept, list) else kept
        if name not in (*_FREE, *_BY_CHECKSUM) and kept != value:
            raise InputError(_of_others(path, f"{name} = {show(kept)}, not {show(value)}"))
    sha256 = _mapping(path / DATA).get("sha256")
    if sha256 != dataset.log.sha256:
        raise InputError(
            _of_others(path, f"other data: {sha256}, {dataset.log.source} is {dataset.log.sha256}")
        )
    if not (path / RESULT).exists():
        return False
    if not (path / "test_ranks.npz").exists():
        raise InputError(f"{path}: {RESULT} is there, but test_ranks.npz is not: delete the folder")
    return True


def _mapping(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: damaged: not a JSON object")
    return found


def _of_others(path: Path, what: str) -> str:
    return f"{path} was made with {what}: give another --out, or the settings it was made with"


def changes_on_resume(run: Planned) -> dict[str, Given]:
    """What was said of where, and in what precision, a run that goes on is computed."""
    return {name: value for name, value in run.given.items() if name in (*_FREE, "precision")}
