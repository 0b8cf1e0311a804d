"""A whole run: from a resolved configuration to result.json, new or resumed.

The order of things and nothing else: data, model, training, final evaluation. Everything is checked
before the run directory is made, so that bad input leaves nothing behind.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from .. import _native
from .. import config as configuration
from ..config import Config, Resolved
from ..config_keys import Given, show
from ..errors import InputError
from ..evaluation import rank_by_scores
from ..model import MCLRec
from ..sampling import SampleTable
from . import checkpoint
from .checkpoint import Progress
from .console import Console
from .graphs import training_step
from .interrupt import StopRequest
from .loop import Training, finite_ranks
from .report import Rank, final_report, measure, peak_rss_mb, popularity_report, say_table
from .run_data import RunData, load_run_data
from .run_directory import (
    BEST,
    CONFIG,
    DATA,
    ENVIRONMENT,
    LAST,
    RunDirectory,
    default_path,
    read_json,
)
from .trained import Trained, load_trained

_INITIALISING = Lock()

CHANGEABLE = (
    "data", "epochs", "max_steps", "patience", "threads", "device", "backend", "tf32",
    "bf16", "cuda_graphs", "eval_batch_size", "checkpoint_steps", "reader",
)  # fmt: skip
"""Keys that a resumed run may change; anything else would make it another run."""


def start(resolved: Resolved, out: Path | None, console: Console) -> dict[str, Any]:
    """Trains a new run.

    Args:
        resolved: its configuration.
        out: its directory; None for runs/<data>-<model>-<time>.
        console: what it says.

    Returns:
        What result.json holds.

    Raises:
        InputError: the configuration, the data or the directory will not do.
        RunError: the run failed.
        Interrupted: a signal ended it, and its state is saved.
    """
    if out is not None:
        RunDirectory.check_free(out)
    config = for_this_machine(resolved.config)
    device = prepare_machine(config)
    for line in configuration.differences(resolved._replace(config=config)):
        console.line(f"config: {line}")
    for note in resolved.notes:
        console.line(f"note: {note}")
    data = load_run_data(config, console)
    path = out or default_path(data.name, config.model.model)
    with RunDirectory.create(path) as directory:
        console.attach(directory.log)
        console.line(f"run: {path}")
        directory.write_config(config)
        directory.write_json(ENVIRONMENT, _native.environment())
        directory.write_json(DATA, data.card)
        data.save_ids(directory.path)
        return _train(config, data, device, directory, console, None)


def resume(path: Path, given: Mapping[str, Given], console: Console) -> dict[str, Any]:
    """Goes on with a run; nothing changed gives the bits of a run that never stopped.

    Args:
        path: the run's directory.
        given: values that the command line changes, of :data:`CHANGEABLE` keys.
        console: what it says.

    Returns:
        What result.json holds.

    Raises:
        InputError: no run there, no state of it, a change that makes another run, other data.
        RunError: the run failed.
        Interrupted: a signal ended it, and its state is saved.
    """
    with RunDirectory.open(path) as directory:
        before = configuration.from_dict(read_json(path / CONFIG), str(path / CONFIG))
        config = changed(before, given)
        device = prepare_machine(config)
        state = None
        if config.model.model != "popularity":
            state = checkpoint.load_state(path / LAST)
        console.attach(directory.log)
        console.line(f"run: {path} (resumed)")
        data = load_run_data(config, console)
        data.require_same_as(path)
        if config != before:
            directory.write_config(config)
        return _train(config, data, device, directory, console, state)


def evaluate(path: Path, given: Mapping[str, Given], console: Console) -> dict[str, Any]:
    """Ranks a run's targets with its best weights; writes nothing.

    Args:
        path: the run's directory.
        given: values that the command line changes, of :data:`CHANGEABLE` keys.
        console: what it says.

    Returns:
        The metrics like result.json's, and what they were measured with.

    Raises:
        InputError: no run there, no weights yet, other data.
        RunError: a score is not finite.
    """
    trained = load_trained(path)
    config = used_here(trained.config, given)
    device = prepare_machine(config)
    data = load_run_data(config, console)
    data.require_same_as(path)
    if trained.n_classes != data.log.n_classes:
        raise InputError(
            f"{path}: its weights know {trained.n_classes - 1} items, {data.log.source} has "
            f"{data.log.n_items}: a checkpoint of another data set"
        )
    result = {
        "run": str(path),
        "dataset": data.card,
        "model": config.model.model,
        "backend": _native.backend(config.train.backend, device),
        "best_epoch": trained.header["epoch"],
        **measure(_ranker(trained, path, config, device), config, data, device),
        "peak_rss_mb": peak_rss_mb(),
    }
    say_table(result, console)
    return result


def _ranker(trained: Trained, path: Path, config: Config, device: torch.device) -> Rank:
    """How a trained model ranks the samples of a table."""
    if trained.is_popularity:
        scores = trained.popularity().numpy()
        return lambda table: rank_by_scores(scores, table, batch_size=config.train.eval_batch_size)
    encoder = trained.encoder(str(path)).to(device)
    return lambda table: finite_ranks(
        encoder, table, config, trained.header["step"], lambda _done: None
    )


def changed(config: Config, given: Mapping[str, Given]) -> Config:
    """The configuration of a resumed run.

    Raises:
        InputError: a key that would make it another run.
    """
    tree = configuration.to_dict(config)
    for name, value in given.items():
        section = configuration.KEYS[name].section
        if value.value == tree[section][name]:
            continue
        if name not in CHANGEABLE:
            raise InputError(
                f"{value.origin}: a resumed run keeps its {name} = "
                f"{show(tree[section][name])}; start a new run to change it "
                f"(a resumed run may change: {', '.join(CHANGEABLE)})"
            )
        tree[section][name] = value.value
    return configuration.from_dict(tree, "--resume")


def used_here(config: Config, given: Mapping[str, Given]) -> Config:
    """The configuration of a finished run for using it on this machine.

    Raises:
        InputError: a key that would make it another run.
    """
    if "device" in given and given["device"].value == "cpu":  # these are modes of GPUs
        off = {name: Given(False, "--device cpu") for name in ("tf32", "bf16")}
        given = {**off, **given}
    return changed(for_this_machine(config), given)


def for_this_machine(config: Config) -> Config:
    """The configuration with the number of threads decided: all cores this process may use."""
    if config.train.threads is not None:
        return config
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return replace(config, train=replace(config.train, threads=cores or 1))


def prepare_machine(config: Config) -> torch.device:
    """Sets torch's threads, finds the device and sets its precision.

    Raises:
        InputError: there is no such device, or no such backend on it.
    """
    if config.train.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    device = torch.device(config.train.device)
    _native.backend(config.train.backend, device)
    if device.type == "cuda":
        _native.set_precision(config.train.precision)
    torch.set_num_threads(config.train.threads or 1)
    return device


def new_model(n_classes: int, config: Config, device: torch.device) -> MCLRec:
    """A model with the initial weights of the configuration's seed, the same on every device."""
    # torch's generator belongs to the process: trainings in other threads wait for their turn.
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return MCLRec(n_classes, config).to(device)


def _train(
    config: Config,
    data: RunData,
    device: torch.device,
    directory: RunDirectory,
    console: Console,
    state: checkpoint.State | None,
) -> dict[str, Any]:
    """Everything after data and directory are at hand."""
    backend = _native.backend(config.train.backend, device)
    console.line(
        f"model={config.model.model} schedule={config.train.schedule} backend={backend} "
        f"device={device} threads={config.train.threads} seed={config.train.seed}"
    )
    if config.model.model == "popularity":
        return popularity_report(config, data, device, directory, console)
    model = new_model(data.log.n_classes, config, device)
    step = training_step(model, config)
    length = config.model.max_length
    training = Training(
        config=config,
        model=model,
        step=step,
        train=SampleTable(data.log, data.split.train, length, device),
        valid=data.split.valid and SampleTable(data.log, data.split.valid, length, device),
        progress=Progress(),
        directory=directory,
        console=console,
        stop=StopRequest(),
    )
    if state is not None:
        _restore(training, state)
    with training.stop:
        if state is None:
            training.save()
        training.run()
        return final_report(training, data, backend)


def _restore(training: Training, state: checkpoint.State) -> None:
    """Puts a run back to where its state says, and best.safetensors and the metrics with it."""
    path = training.directory.path
    checkpoint.load_weights(training.model, state.model, str(path / LAST))
    training.step.load_state_dict(state.optimizers)
    training.progress = progress = state.progress
    if state.best is not None:
        training.save_best(progress, state.best)
    elif progress.best_epoch and progress.best_step == progress.step:
        training.save_best(progress)  # the process may have died between the two files
    if progress.best_epoch and not (path / BEST).exists():
        raise InputError(f"{path / BEST} is missing: the run cannot go on without its best weights")
    training.directory.write_metrics(progress.history)
    training.console.line(
        f"going on after epoch {progress.epoch}, batch {progress.batch} (step {progress.step})"
    )
