"""A log of one's own for a finished run: read as the run reads, scored with what the run knows.

What the options do not say is as the run has it, except that no user and no item is too rare, that
columns may have their usual names, and that ratings may be missing.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config import LOG_KEYS, Config, DataConfig
from ..config_keys import Given
from ..data import Dataset, load_dataset, load_other
from ..data.dataset import PARTS
from ..data.source import Source
from ..data.stream import Opened, open_histories
from ..errors import InputError
from .directory import SAVED
from .loading import as_the_run_numbers, data_differs, read_card
from .trimmed import is_trimmed

_ALSO_OF_THE_RUN = ("min_rating", "dedupe", "reader")
IN_PYTHON = ("frame", SAVED)
ONLY_PYTHON = "it was trained in Python, and only Python has its log"


def read_other(
    path: Path, config: Config, given: Mapping[str, Given], opened: Source | None = None
) -> Dataset:
    """The log that `--data` names, or else that of the run at `path`; without samples.

    Args:
        path: the run's directory.
        config: its configuration.
        given: the options about the log.
        opened: the file, where it was looked at before and cannot be opened again.

    Raises:
        InputError: anything wrong with it; options for a log that is not named.
    """
    if "data" not in given:
        name = next((name for name in LOG_KEYS if name in given), None)
        if name is not None:
            raise InputError(
                f"{given[name].origin} needs --data FILE: the run's log stays as it is"
            )
        if read_card(path)["format"] in IN_PYTHON:
            raise InputError(f"{path}: {ONLY_PYTHON}; give --data FILE")
        return load_other(config.data, threads=config.train.threads)
    data, soft = _as_the_run_reads(config, given)
    return load_other(data, soft, threads=config.train.threads, opened=opened)


def open_other(config: Config, given: Mapping[str, Given]) -> Opened:
    """The log that `--data` names, in parts where it can be read so.

    Raises:
        InputError: anything wrong with it.
    """
    data, soft = _as_the_run_reads(config, given)
    return open_histories(data, soft, config.train.threads or os.cpu_count() or 1)


def _as_the_run_reads(config: Config, given: Mapping[str, Given]) -> tuple[DataConfig, list[str]]:
    """What to read, and which parts of it need not be there as the run has them."""
    read = read_alike(config, given)
    kept = {name: getattr(config.data, name) for name in _ALSO_OF_THE_RUN}
    if read["rating_col"] is not None and config.data.min_rating is None:
        read["rating_col"] = None
    data = replace(DataConfig(), holdout="none", **(kept | read))
    return data, [part for name, part in PARTS.items() if name not in given]


def read_alike(config: Config, given: Mapping[str, Given]) -> dict[str, Any]:
    """`LOG_KEYS` of another log than a run's: as they are given, else as the run has them."""
    kept = {name: getattr(config.data, name) for name in LOG_KEYS}
    kept["format"] = "auto"  # another file may be of another kind
    said = {name: given[name].value for name in LOG_KEYS if name in given}
    for one, other in (("time_col", "ignore_times"), ("then_by", "ignore_times")):
        if one in said and other not in said:
            kept[other] = False
        if said.get(other) and one not in said:
            kept[one] = None
    return kept | said


class OwnLog(NamedTuple):
    """A run's own log: the data set, or why it cannot be had."""

    dataset: Dataset | None
    why_not: str = ""


def read_own(path: Path, config: Config) -> OwnLog:
    """The log that the run at `path` was made with, where it still is what it was."""
    if read_card(path)["format"] in IN_PYTHON:
        return OwnLog(None, ONLY_PYTHON)
    try:
        dataset = load_dataset(config.data, threads=config.train.threads)
    except InputError as error:
        return OwnLog(None, f"its log cannot be read: {error}")
    if is_trimmed(path):
        return _of_trimmed(path, dataset)
    if differs := data_differs(path, dataset):
        return OwnLog(None, differs)
    return OwnLog(as_the_run_numbers(path, dataset))


def _of_trimmed(path: Path, dataset: Dataset) -> OwnLog:
    """The same where the run keeps no ids: its items are numbered as its log has them, or lost."""
    card = read_card(path)
    if card["sha256"] != dataset.log.sha256:
        return OwnLog(None, f"{dataset.log.source} is not the data of {path}, by its SHA-256")
    if card.get("start") is not None:
        return OwnLog(None, "it began with another run's items, and was trimmed")
    return OwnLog(dataset)
