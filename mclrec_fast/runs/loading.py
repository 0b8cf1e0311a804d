"""A finished run, or a saved model, as others use it: its configuration and its best weights.

For evaluation and recommendation; needs no data and no optimizer state. Runs made from an imported
checkpoint hold what ranking needs and no more.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import config as configuration
from ..config import Config, DataConfig, TrainConfig
from ..data import Dataset, load_dataset, load_ids, save_ids
from ..data.other import in_numbers_of
from ..environment import environment
from ..errors import InputError
from ..models import model_class
from ..models.base import Model, Origin
from . import checkpoint
from .directory import (
    BEST,
    CONFIG,
    DATA,
    ENVIRONMENT,
    LAST,
    SAVED,
    RunDirectory,
    read_json,
    refuse_saved_model,
    require_run,
)
from .identity import identity
from .start import Start
from .trimmed import is_trimmed


class LoadedRun(NamedTuple):
    """What a run learned.

    Attributes:
        config: its configuration.
        model: the model with its best weights, in evaluation mode.
        header: when they were reached: `epoch`, `step`, `value` of the monitored metric.
    """

    config: Config
    model: Model
    header: dict[str, Any]


def read_config(path: Path) -> Config:
    """The configuration of the run at `path`.

    Raises:
        InputError: missing, damaged, or of a version with other keys.
    """
    file = path / CONFIG
    tree = read_json(file)
    try:
        return configuration.from_dict(tree, str(file))
    except InputError as error:
        if str(file) in str(error):
            raise
        raise InputError(f"{file}: {error}") from None


def read_card(path: Path) -> dict[str, Any]:
    """The data card of the run at `path`.

    Raises:
        InputError: missing, damaged, or without what identifies the data.
    """
    card = read_json(path / DATA)
    if not isinstance(card, dict) or not all(
        isinstance(card.get(name), str) for name in ("format", "source", "sha256")
    ):
        raise InputError(f"{path / DATA}: not a data card with format, source and sha256")
    return card


def read_start(path: Path) -> Start | None:
    """What the run at `path` began with; None for new weights.

    Raises:
        InputError: its data card is missing or damaged.
    """
    start = read_card(path).get("start")
    return None if start is None else Start.from_dict(start, str(path / DATA))


def read_optimizers(path: Path) -> dict[str, Any]:
    """The state of the optimizers of the run at `path`.

    Raises:
        InputError: it keeps none, or its files are damaged.
    """
    if not (path / LAST).exists():
        raise InputError(f"{path}: keeps no state of an optimizer ({LAST}): use optimizer reset")
    return checkpoint.load_state(path / LAST).optimizers


def load_run(path: Path, origin: str = "RUN", *, device: str = "cpu") -> LoadedRun:
    """Loads a run's configuration and best weights.

    Args:
        path: the run's directory.
        origin: the argument it came from, for messages.
        device: where the weights go.

    Raises:
        InputError: there is no run, it has no weights yet, or its files do not fit each other.
    """
    require_run(path, origin)
    config = read_config(path)
    if is_trimmed(path):
        raise InputError(
            f"{origin} {path}: {BEST} is missing: the run was trimmed, and has figures and ranks, "
            "but no weights; train it again to have them"
        )
    if not (path / BEST).exists():
        hint = f"; go on with: --resume {path}" if (path / LAST).exists() else ""
        raise InputError(f"{origin} {path}: no {BEST} yet, no epoch was finished{hint}")
    weights, header = checkpoint.read(path / BEST)
    of_run = identity(config, read_card(path)["sha256"], read_start(path))
    if header.get("run") != of_run:
        raise InputError(
            f"{path / BEST}: the weights of another run, not of what {CONFIG} and {DATA} name; "
            "were the run's files changed?"
        )
    if not all(type(header.get(name)) is int for name in ("epoch", "step")):
        raise InputError(f"{path / BEST}: damaged: its header has no epoch and step")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise InputError(f"{path / BEST}: holds weights that are not finite")
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch finds no CUDA device here; use 'cpu'")
    model = model_class(config.model.name)(config.model)
    item_ids = load_ids(path).item_ids
    model.start(item_ids, 0)
    if "imported_from" in header:
        rest = {
            n: t for n, t in model.state_dict().items() if n.startswith(model.only_for_training)
        }
        weights = rest | weights
    origin = f"{path / BEST}, beside {len(item_ids) - 1} item ids"
    checkpoint.load_weights(model, weights, origin)
    model._came_from = Origin(of_run, str(path.resolve()), partial(read_optimizers, path.resolve()))
    return LoadedRun(config, model.to(place).eval(), header)


def load_model(path: Path, *, device: str = "cpu") -> Model:
    """The model of a run or of `Model.save`, with its best weights.

    Raises:
        InputError: see `load_run`.
    """
    return load_run(path, "load", device=device).model


def save_model(model: Model, path: Path) -> None:
    """Keep a model's options, weights and item ids in a new directory, which `load_run` reads.

    Raises:
        InputError: the directory holds a run already or cannot be made.
    """
    with RunDirectory.create(path, "save") as directory:
        ids = _Ids(np.empty(0, np.int64), model.item_ids)
        save_ids(ids, path, keep_user_ids=False)
        config = Config(DataConfig(), model.options, TrainConfig())
        directory.write_json(DATA, {"format": SAVED, "source": "Model.save", "sha256": ""})
        header = {"epoch": 0, "step": 0, "value": None, "run": identity(config, "")}
        checkpoint.write(path / BEST, model.state_dict(), header)
        directory.write_config(config)  # last: it makes the directory one that can be loaded


class _Ids(NamedTuple):
    user_ids: Any
    item_ids: Any


def begin_run(
    directory: RunDirectory, config: Config, dataset: Dataset, start: Start | None = None
) -> None:
    """Write what a new run is: its environment, its data and, last, its configuration."""
    write_data(directory, config, dataset, start)
    directory.write_config(config)


def write_data(
    directory: RunDirectory, config: Config, dataset: Dataset, start: Start | None = None
) -> None:
    """Write what a run is made on: its environment, its data and the weights it begins with."""
    directory.write_json(ENVIRONMENT, environment())
    began = {} if start is None else {"start": start.to_dict()}
    directory.write_json(DATA, dataset.card.to_dict() | began)
    save_ids(dataset.log, directory.path, config.data.user_ids)


def load_run_data(path: Path, config: Config) -> Dataset:
    """The data of the run at `path`, read again.

    Raises:
        InputError: it was a frame, or the file is not what it was.
    """
    made_with = read_card(path)
    refuse_saved_model(
        path, "RUN", "it has no log: evaluate --data FILE takes any (in Python, evaluate(dataset))"
    )
    if made_with["format"] == "frame":
        raise InputError(
            f"{path} was trained on a frame in Python, {made_with['source']!r}, which no command "
            "line can read: go on in Python, with Dataset.from_frame and fit(run=..., resume=True)"
        )
    train = config.train
    dataset = load_dataset(config.data, batch_size=train.batch_size, threads=train.threads)
    require_same_data(path, dataset)
    return as_the_run_numbers(path, dataset)


def as_the_run_numbers(path: Path, dataset: Dataset) -> Dataset:
    """The data set of the run at `path` with its items in the rows of the run's catalogue.

    Only a run that began with another one's weights may number them otherwise than the log does.
    """
    return dataset.numbered_as(load_ids(path).item_ids)


def require_same_data(path: Path, dataset: Dataset) -> None:
    """Refuses data that is not what the run at `path` was made with.

    Raises:
        InputError: another file, or other item ids.
    """
    differs = data_differs(path, dataset)
    if differs:
        raise InputError(
            f"{differs}; to score the run on it as on any log: mclrec-fast evaluate {path} --data "
            f"{dataset.log.source}"
        )


def data_differs(path: Path, dataset: Dataset) -> str:
    """How data is not what the run at `path` was made with; "" where it is.

    Raises:
        InputError: the run's files are missing or damaged.
    """
    before, log = read_card(path), dataset.log
    if before["sha256"] != log.sha256:
        since = before["source"] == log.source or Path(before["source"]).resolve() == Path(
            log.source
        )
        more = ", ".join(dataset.config.more)
        which = f"{log.source} or a log behind it ({more})" if more else log.source
        what = (
            f"{which} has changed since {path} was made"
            if since
            else f"{log.source} is not the data of {path}"
        )
        return (
            f"{what}: its SHA-256 is {log.sha256}, the run was made with {before['source']}, "
            f"{before['sha256']}"
        )
    ids = load_ids(path).item_ids
    grown = before.get("start") is not None  # its catalogue is that of another run, and more
    same = in_numbers_of(log, ids)[1].all() if grown else np.array_equal(ids, log.item_ids)
    if not same:
        return (
            f"{log.source} gives other items than {path} was made with, although the file "
            "is the same: were the run's files changed?"
        )
    return ""
