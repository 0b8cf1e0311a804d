"""Training on: a trained model, a log with new users and new items, and a new run of both.

The catalogue only grows (data/grown.py, models/growing.py). Training begins with the best weights,
those that the run recommends with; the new run's epochs, batches and random draws are counted from
0. The training itself is fit.py's.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import config as configuration
from ..config import Config, DataConfig, Resolved, TrainConfig, options_from
from ..config_keys import Given
from ..console import Console
from ..data import Dataset, InteractionLog, load_dataset
from ..data.grown import grown_ids, growth
from ..data.vectors import Vectors
from ..errors import InputError
from ..models import model_class
from ..models.base import Model
from ..models.freezing import frozen
from ..models.growing import grow
from ..parallel.join import require_alone
from ..runs import checkpoint
from ..runs.directory import RunDirectory, default_path, require_run
from ..runs.loading import load_run, read_card, read_config
from ..runs.other import IN_PYTHON, ONLY_PYTHON, read_alike, read_own
from ..runs.start import OPTIMIZERS, Start
from .fit import Job, filled, require_freezable, start_of, train_job
from .machine import all_cores, inherited, machine_for
from .observers import Callback, require_callbacks
from .trackers import tracker_of
from .vectors import fill, require_fit, split_given, vectors_in


def fit_partial(
    model: Model,
    data: Any,
    optimizer: str,
    run: str | os.PathLike[str] | None,
    callbacks: Sequence[Callback],
    verbose: bool,
    options: Mapping[str, Any],
) -> None:
    """See `Model.fit_partial`."""
    require_alone("fit_partial")
    model.require_weights()
    of_data = {field.name for field in fields(DataConfig)} & set(options)
    if not isinstance(data, Dataset):
        data = Dataset.from_frame(data, **{name: options[name] for name in of_data})
    elif of_data:
        raise TypeError(f"fit_partial: {', '.join(sorted(of_data))}: a Dataset is read already")
    training = {name: value for name, value in options.items() if name not in of_data}
    vectors = split_given(training)
    train = options_from(TrainConfig, training, "fit_partial")
    configuration.require_an_end(data.config, training)
    require_callbacks(callbacks)
    path = None if run is None else Path(run)
    if path is not None:
        RunDirectory.check_free(path, "run")
    config = Config(data.config, model.options, train)
    console = Console() if verbose else Console.silent()
    with machine_for(train) as device:
        job = _grown(
            Job(model, data, config, device, console), optimizer, vectors or vectors_in(train)
        )
        callbacks = [*callbacks, *tracker_of(train.tracker, path)]
        if path is None:
            train_job(job, None, callbacks)
            return
        with RunDirectory.create(path, "run") as directory:
            train_job(job, directory, callbacks)


def start_from(
    parent: Path, given: Mapping[str, Given], optimizer: str, out: Path | None, console: Console
) -> dict[str, Any]:
    """Trains a new run that begins with another one's weights, as the command line does.

    Args:
        parent: the other run's directory.
        given: what the command line changes of its configuration; among it the log, as `data`,
            `dataset` or `more`.
        optimizer: "reset" or "carry".
        out: the new run's directory; None for runs/<data>-<model>-<time>.
        console: what it says.

    Returns:
        What result.json holds.

    Raises:
        InputError: no run there, a log that contradicts its own, settings that do not fit its
            weights; nothing is written then.
        RunError, Interrupted: see `fit.start`.
    """
    require_alone("--from")
    if out is not None:
        RunDirectory.check_free(out)
    require_run(parent, "--from")
    before = read_config(parent)
    resolved = _resolved(parent, before, given)
    config = inherited(all_cores(resolved.config), given, console.line)
    with machine_for(config.train) as device:
        for line in configuration.differences(resolved._replace(config=config)):
            console.line(f"config: {line}")
        model = model_class(config.model.name)(config.model)
        _begin_with(parent, model)
        with console.waiting("reading the data"):
            own = read_own(parent, before)
            if own.dataset is None and "data" not in given and "dataset" not in given:
                raise InputError(f"--more: {own.why_not}; give the whole log with --data")
            dataset = load_dataset(
                config.data, batch_size=config.train.batch_size, threads=config.train.threads
            )
        console.line(dataset.card.render())
        if own.dataset is None:
            console.line(f"note: {own.why_not}; so histories are not compared with those of before")
        job = Job(model, dataset, config, device, console)
        before_log = None if own.dataset is None else own.dataset.log
        job = _grown(job, optimizer, vectors_in(config.train), before_log)
        path = out or default_path(dataset.name, config.model.name)
        callbacks = tracker_of(config.train.tracker, path)
        with RunDirectory.create(path) as directory:
            return train_job(job, directory, callbacks)


def begin_again(path: Path, start: Start, job: Job) -> Job:
    """A job as it was begun, for a run that died before it had any state.

    Args:
        path: the run's directory.
        start: what it says that it began with.
        job: its model, whose weights do not count, its data and settings.

    Raises:
        InputError: what it began with is not to be had any more.
    """
    died = f"{path}: died before its first state, and"
    remedy = "train anew, in another directory"
    vectors = vectors_in(job.config.train) if start.vectors else None
    if (start.weights and not start.path) or (start.vectors and vectors is None):
        raise InputError(f"{died} what it began with was never kept: {remedy}")
    if vectors is not None and vectors.sha256 != start.vectors:
        raise InputError(f"{died} {vectors.source} has changed since: {remedy}")
    model, ids, seed = job.model, job.dataset.log.item_ids, job.config.train.seed
    first, moments = 1, None
    if start.weights:
        _begin_with(Path(start.path), model)
        if checkpoint.digest(model.state_dict()) != start.weights:
            raise InputError(
                f"{died} {start.path} has other weights by now than those it began with: {remedy}"
            )
        moments = _moments(model, start.optimizer, job.config.train.freeze)
        first = start.items + 1
        grow(model, ids, seed)
    else:
        model.start(ids, seed)
    if vectors is not None:
        fill(model, vectors, first)
    return job._replace(start=start, moments=moments)


def _resolved(parent: Path, before: Config, given: Mapping[str, Given]) -> Resolved:
    """The configuration of a run that goes on from another one: that one's, changed.

    Raises:
        InputError: another model, no log, or a log's options without the log.
    """
    tree = configuration.to_dict(before)
    origins = {name: f"--from {parent}" for part in tree.values() for name in part}
    if "model" in given and given["model"].value != before.model.name:
        raise InputError(
            f"--model {given['model'].value}: {parent} is a {before.model.name}, and trains on as "
            "one"
        )
    tree["train"] |= {"item_embeddings": None, "item_ids": None}  # these were the old items'
    if "data" in given or "dataset" in given:
        tree["data"] |= read_alike(before, given) | {"dataset": None, "more": ()}
        tree["data"]["data"] = None
    elif "more" not in given:
        raise InputError(
            f"--from {parent}: on what? --data FILE (the whole log) or --more FILE (the new rows)"
        )
    elif read_card(parent)["format"] in IN_PYTHON:
        raise InputError(f"--more: {parent}: {ONLY_PYTHON}; give the whole log with --data")
    for name, value in given.items():
        section = configuration.KEYS[name].section
        if name == "data" or section != "data" or name not in configuration.LOG_KEYS:
            more = tree["data"]["more"] if name == "more" else ()
            tree[section][name] = (*more, *value.value) if name == "more" else value.value
        elif "data" not in given and "dataset" not in given:
            raise InputError(
                f"{value.origin} needs --data FILE: with --more, the run's log stays as it is read"
            )
    origins |= {name: value.origin for name, value in given.items()}
    return Resolved(configuration.from_dict(tree, "--from"), origins)


def _begin_with(parent: Path, model: Model) -> None:
    """Give a model the best weights of a run.

    Raises:
        InputError: there is no such run, or its weights have other shapes.
    """
    old = load_run(parent, "--from").model
    assert old.item_ids is not None
    model.start(old.item_ids, 0)
    checkpoint.load_weights(model, old.state_dict(), f"{parent}: trains on in its own shape")
    model._came_from = old._came_from


def _grown(
    job: Job, optimizer: str, vectors: Vectors | None, before: InteractionLog | None = None
) -> Job:
    """The job with its model grown to its data set, and the data set numbered alike.

    Everything is checked before the model is touched.
    """
    model, train = job.model, job.config.train
    require_freezable(model, train.freeze)
    if optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer is {optimizer!r}, expected one of {', '.join(OPTIMIZERS)}")
    assert model.item_ids is not None
    job.console.line(growth(model.item_ids, job.dataset.log, before).render())
    moments = _moments(model, optimizer, train.freeze)
    start = start_of(model, optimizer)
    ids = grown_ids(model.item_ids, job.dataset.log)
    if ids.dtype != model.item_ids.dtype:
        job.console.line("note: item ids were integers and are text now, as one of the new is text")
    dataset = job.dataset.numbered_as(ids)
    first = len(model.item_ids)
    if vectors is not None:
        require_fit(model, vectors, ids)
    grow(model, ids, train.seed)
    return filled(job._replace(dataset=dataset, start=start, moments=moments), vectors, first)


def _moments(model: Model, optimizer: str, freeze: str) -> dict[str, Any] | None:
    """The state of the optimizers that a model was trained with, where that is to be carried on.

    Raises:
        InputError: there is none, or it is of other weights.
    """
    if optimizer == "reset" or not model.iterative:
        return None
    if model._came_from is None:
        raise InputError(
            "optimizer carry: a saved or copied model has its weights alone; load the directory of "
            "a run, or use optimizer reset"
        )
    state = model._came_from.optimizers()
    with frozen(model, freeze):
        moving = {
            name: [weight.shape for weight in weights if weight.requires_grad]
            for name, weights in model.groups().items()
        }
    for name, shapes in moving.items():
        if shapes and [t.shape for t in state.get(name, {}).get("first", ())] != shapes:
            raise InputError(
                f"optimizer carry: the state that is kept is not that of the {name}'s weights that "
                "are to move (did freeze change?); use optimizer reset"
            )
    return state
