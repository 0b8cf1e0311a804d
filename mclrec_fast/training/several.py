"""What a training does differently where several processes share it: who writes, who speaks.

And what they must have in common, looked at before anything is written. With one process all of it
comes to nothing. What is exchanged in a batch is parallel/'s business.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from .. import __version__, _native
from ..config import Config, TrainConfig, to_dict
from ..config_keys import show
from ..console import Console
from ..data import Dataset
from ..errors import InputError
from ..models.base import Model
from ..parallel import Group, joined
from ..runs import checkpoint
from ..runs.directory import RunDirectory
from .observers import Callback

_MAY_DIFFER = ("data", "more", "threads", "reader", "tracker", "process_timeout")
"""Keys that may differ between processes: where a file lies, how it is read, how fast."""


@contextmanager
def processes(train: TrainConfig, console: Console) -> Iterator[tuple[Group, Console]]:
    """While entered, the processes that were started together, and what this one speaks to.

    Raises:
        InputError: they cannot meet.
    """
    with joined(train.device, train.process_timeout) as group:
        yield group, console if group.first else Console.silent()


@contextmanager
def writer(group: Group, open_it: Callable[[], RunDirectory]) -> Iterator[RunDirectory | None]:
    """The run's directory in the process that writes; None in the others.

    Raises:
        InputError: the directory will not do; in all processes.
    """
    directory = group.of_first(open_it)
    if directory is None:
        yield None
        return
    with directory:
        yield directory


def callbacks(group: Group, make: Callable[[], Sequence[Callback]]) -> Sequence[Callback]:
    """Who is told of events: in the first process alone."""
    return group.of_first(make) or ()


def dealt(config: Config, group: Group, *, resumed: bool = False) -> Config:
    """The configuration with a part of every batch for each process.

    Raises:
        InputError: there are fewer parts than processes.
    """
    train, size = config.train, group.size
    if size <= train.batch_parts:
        return config
    if train.batch_size < size:
        raise InputError(
            f"{size} processes for batches of {train.batch_size} samples (batch_size): some would "
            "never have any; start fewer, or give a larger batch_size"
        )
    if resumed or train.batch_parts > 1:
        raise InputError(
            f"{size} processes, but batches of {train.batch_parts} part(s) (batch_parts): start at "
            f"most {train.batch_parts}, or make a run with --set batch_parts={size} or more"
        )
    return replace(config, train=replace(train, batch_parts=size))


def require_alike(group: Group, config: Config, dataset: Dataset, model: Model) -> None:
    """Refuse processes that would not compute the same.

    Raises:
        InputError: the first difference, by name, in all of them.
    """
    if group.size == 1:
        return
    backend = _native.backend(config.train.backend, config.train.device)
    facts = {
        "mclrec_fast": __version__,
        "torch": torch.__version__,
        "backend": backend,
        "instruction set": _native.isa() if backend == "native" else "",
        "data (SHA-256)": dataset.log.sha256,
        "items": len(dataset.log.item_ids) - 1,
        "training samples": dataset.split.train.size,
    }
    for part in to_dict(config).values():
        facts |= {name: value for name, value in part.items() if name not in _MAY_DIFFER}
    if model.item_ids is not None:
        facts["weights (digest)"] = checkpoint.digest(model.state_dict())
    text = {name: show(value) for name, value in facts.items()}
    everyones = group.everyones(text)
    for number, other in enumerate(everyones):
        for name, value in everyones[0].items():
            if other.get(name) != value:
                raise _said_once(
                    group,
                    f"process {number} of {group.size} has another {name} than process 0: "
                    f"{other.get(name)}, not {value}; all must have the same",
                )


def _said_once(group: Group, text: str) -> InputError:
    error = InputError(text)
    error.said_by_another = not group.first
    return error


def share_best(group: Group, keeper: Any) -> None:
    """Everybody gets the best weights that the first process has from before."""
    best = group.from_first(keeper.best)
    if best is not None and not group.first:
        keeper.save_best(best, {})
