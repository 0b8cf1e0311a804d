"""A whole training: from a model, a data set and settings to the result; new or resumed.

The order of things and nothing else: data, weights, training, final evaluation. The command line
and `Model.fit` both end in `train_job`. Everything is checked before a run's directory is made, so
that bad input leaves nothing behind.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import _native
from .. import config as configuration
from .._precision import FLOAT32
from ..config import Config, Resolved, TrainConfig, options_from
from ..config_keys import Given, show
from ..console import Console
from ..data import Dataset, load_dataset
from ..data.vectors import Vectors
from ..errors import InputError, RunError
from ..evaluation import require_items
from ..metrics import Monitor
from ..models import model_class
from ..models.base import Model, Origin
from ..models.freezing import frozen
from ..parallel import ALONE, Group, LostProcess
from ..runs import checkpoint
from ..runs.checkpoint import Progress
from ..runs.directory import BEST, CONFIG, LAST, RunDirectory, default_path, require_run
from ..runs.identity import CHANGEABLE, identity
from ..runs.loading import (
    as_the_run_numbers,
    begin_run,
    load_run_data,
    read_config,
    read_start,
    require_same_data,
)
from ..runs.start import OPTIMIZERS, Start
from ..runs.trimmed import is_trimmed
from ..sampling import SampleTable
from . import several
from .graphs import training_step
from .interrupt import StopRequest, resume_command
from .keeper import InDirectory, InMemory, Keeper
from .loop import Training
from .machine import all_cores, inherited, machine_for
from .observers import Callback, EpochLines, MetricsFiles, Observers, require_callbacks
from .report import final_report
from .trackers import tracker_of
from .vectors import fill, split_given, vectors_in


class Job(NamedTuple):
    """What is trained, on what, how and where.

    Attributes:
        model: it has weights already where it does not begin with new ones.
        dataset: its items are numbered as the model numbers them.
        config: the settings.
        device: where to.
        console: what says so.
        start: the weights it begins with; None for new ones.
        moments: the state of optimizers to begin with; None for new ones.
        group: the processes that train it together.
        path: of the run's directory, whichever process writes there.
    """

    model: Model
    dataset: Dataset
    config: Config
    device: torch.device
    console: Console
    start: Start | None = None
    moments: dict[str, Any] | None = None
    group: Group = ALONE
    path: Path | None = None


def start(resolved: Resolved, out: Path | None, console: Console) -> dict[str, Any]:
    """Trains a new run, as the command line does.

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
    with several.processes(resolved.config.train, console) as (group, console):
        if out is not None:
            group.of_first(lambda: RunDirectory.check_free(out))
        config = group.together(lambda: several.dealt(all_cores(resolved.config), group))
        with machine_for(config.train) as device:
            for line in configuration.differences(resolved._replace(config=config)):
                console.line(f"config: {line}")
            with console.waiting("reading the data"):
                dataset = group.together(lambda: _read(config))
            console.line(dataset.card.render())
            model = model_class(config.model.name)(config.model)
            require_freezable(model, config.train.freeze)
            job = Job(model, dataset, config, device, console, group=group)
            job = group.together(lambda: filled(job, vectors_in(config.train)))
            several.require_alike(group, config, dataset, model)
            path = group.from_first(lambda: out or default_path(dataset.name, config.model.name))
            callbacks = several.callbacks(group, lambda: tracker_of(config.train.tracker, path))
            with several.writer(group, lambda: RunDirectory.create(path)) as directory:
                return train_job(job._replace(path=path), directory, callbacks)


def start_or_resume(
    resolved: Resolved, out: Path, given: Mapping[str, Given], console: Console
) -> dict[str, Any]:
    """The same for processes that were started again: goes on with the run, if it was begun."""
    with several.processes(resolved.config.train, console) as (group, _):
        begun = group.from_first((out / CONFIG).is_file)
        return resume(out, given, console) if begun else start(resolved, out, console)


def _read(config: Config) -> Dataset:
    train = config.train
    return load_dataset(config.data, batch_size=train.batch_size, threads=train.threads)


def resume(path: Path, given: Mapping[str, Given], console: Console) -> dict[str, Any]:
    """Goes on with a run; nothing changed gives the bits of a run that never stopped.

    Args:
        path: the run's directory.
        given: values that the command line changes, of `identity.CHANGEABLE` keys.
        console: what it says.

    Returns:
        What result.json holds.

    Raises:
        InputError: no run there, no state of it, a change that makes another run, other data.
        RunError: the run failed.
        Interrupted: a signal ended it, and its state is saved.
    """
    with (
        several.processes(_patience(given), console) as (group, console),
        several.writer(group, lambda: RunDirectory.open(path)) as directory,
    ):
        before = group.from_first(lambda: read_config(path))
        config = group.together(
            lambda: inherited(
                several.dealt(changed(before, given), group, resumed=True), given, console.line
            )
        )
        with machine_for(config.train) as device:
            model = model_class(config.model.name)(config.model)
            state = group.from_first(lambda: _state_of(path, model))
            if directory is not None:
                console.attach(directory.log)
            console.line(f"run: {path} (resumed)")
            if "precision" in given:
                _say_of_precision(before, config, console)
            with console.waiting("reading the data"):
                dataset = group.together(
                    lambda: load_run_data(path, config) if group.first else _read(config)
                )
            console.line(dataset.card.render())
            callbacks = several.callbacks(group, lambda: tracker_of(config.train.tracker, path))
            several.require_alike(group, config, dataset, model)
            if directory is not None and config != before:
                directory.write_config(config)
            job = Job(model, dataset, config, device, console, group=group, path=path)
            job = group.together(lambda: _taken_up(path, job, state))
            return train_job(job, directory, callbacks, state)


def _patience(given: Mapping[str, Given]) -> TrainConfig:
    """What processes need to know to meet, before they have read the run that they go on with."""
    names = ("device", "process_timeout")
    return TrainConfig(**{name: given[name].value for name in names if name in given})


def fit_in_python(
    model: Model,
    dataset: Dataset,
    run: str | os.PathLike[str] | None,
    again: bool,
    callbacks: Sequence[Callback],
    verbose: bool,
    training: Mapping[str, Any],
) -> None:
    """See `Model.fit`."""
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"fit takes a Dataset, not {type(dataset).__name__}: Dataset.from_frame(frame, "
            "user_col=..., item_col=..., time_col=...) makes one"
        )
    training = dict(training)
    vectors = split_given(training)
    train = options_from(TrainConfig, training, "fit")
    configuration.require_an_end(dataset.config, training)
    require_freezable(model, train.freeze)
    if model.item_ids is not None and not again:
        require_items(model, dataset)
    require_callbacks(callbacks)
    path = None if run is None else Path(run)
    callbacks = [*callbacks, *tracker_of(train.tracker, path)]
    config = Config(dataset.config, model.options, train)
    if again and path is None:
        raise InputError("fit: resume=True needs run=DIR, the run to go on with")
    console = Console() if verbose else Console.silent()
    with several.processes(train, console) as (group, console):
        config = group.together(lambda: several.dealt(config, group))
        if path is not None and again and "precision" not in training:
            config = _with_precision_of(path, config, group, console)
        callbacks = several.callbacks(group, lambda: callbacks)
        with machine_for(config.train) as device:
            start = None if model.item_ids is None else start_of(model)
            job = Job(model, dataset, config, device, console, start, group=group, path=path)
            if not again:
                job = group.together(lambda: filled(job, vectors or vectors_in(train)))
            elif vectors is not None:
                raise InputError(
                    "fit: item_embeddings: a resumed run has its item table; leave it out"
                )
            several.require_alike(group, config, dataset, model)
            if path is None:
                train_job(job, None, callbacks)
            elif again:
                _fit_again(job, path, callbacks)
            else:
                with several.writer(group, lambda: RunDirectory.create(path, "run")) as directory:
                    train_job(job, directory, callbacks)


def _fit_again(job: Job, path: Path, callbacks: Sequence[Callback]) -> None:
    group, model, dataset = job.group, job.model, job.dataset

    def state_of_run() -> checkpoint.State | None:
        before = read_config(path)
        other = _first_difference(before, job.config)
        if other:
            raise InputError(f"run {path}: {other}; a resumed run keeps it")
        require_same_data(path, dataset)
        _say_of_precision(before, job.config, job.console)
        return _state_of(path, model)

    with several.writer(group, lambda: RunDirectory.open(path)) as directory:
        if directory is not None:
            job.console.attach(directory.log)
        state = group.from_first(state_of_run)
        numbered = group.together(lambda: as_the_run_numbers(path, dataset))
        job = group.together(lambda: _taken_up(path, job._replace(dataset=numbered), state))
        train_job(job, directory, callbacks, state)


def _with_precision_of(path: Path, config: Config, group: Group, console: Console) -> Config:
    """A configuration that goes on in the precision of the run at `path`, where nobody says which.

    Raises:
        InputError: there is no run.
    """

    def of_run() -> str:
        require_run(path, "--resume")
        return read_config(path).train.precision

    train = replace(config.train, precision=group.from_first(of_run))
    return group.together(lambda: inherited(replace(config, train=train), {}, console.line))


def _say_of_precision(before: Config, now: Config, console: Console) -> None:
    """One line where a run goes on in another precision than it was made with."""
    if before.train.precision != now.train.precision:
        console.line(
            f"precision: {before.train.precision} so far, {now.train.precision} from here on"
        )


def _first_difference(before: Config, now: Config) -> str | None:
    """What a resumed run may not change, and is another option or setting now."""
    trees = [configuration.to_dict(config) for config in (before, now)]
    for part in ("model", "train"):
        for name, value in trees[0][part].items():
            if name not in CHANGEABLE and trees[1][part].get(name) != value:
                return f"was made with {name} = {show(value)}, not {show(trees[1][part].get(name))}"
    return None


def changed(config: Config, given: Mapping[str, Given]) -> Config:
    """The configuration of a resumed run.

    Raises:
        InputError: a key that would make it another run.
    """
    tree = configuration.to_dict(config)
    for name, value in given.items():
        section = configuration.KEYS[name].section
        now = tree[section].get(name)
        if value.value == now:
            continue
        if name not in CHANGEABLE:
            raise InputError(
                f"{value.origin}: a resumed run keeps its {name} = {show(now)}; start a new run to "
                f"change it (a resumed run may change: {', '.join(CHANGEABLE)})"
            )
        tree[section][name] = value.value
    return configuration.from_dict(tree, "--resume")


def used_here(config: Config, given: Mapping[str, Given], say: Callable[[str], None]) -> Config:
    """The configuration of a finished run for using it on this machine.

    Args:
        config: of the run.
        given: what was asked for now, by key name.
        say: told where the run's precision cannot be had.

    Raises:
        InputError: a key that would make it another run.
    """
    return inherited(changed(all_cores(config), given), given, say)


def filled(job: Job, vectors: Vectors | None, first: int = 1) -> Job:
    """A job whose model has these vectors in its item table, from row `first` on.

    Raises:
        InputError: they do not fit, or all rows are trained already; the model is as it was.
    """
    if vectors is None:
        return job
    model, start = job.model, job.start
    if start is not None and first == 1:
        raise InputError(
            "item_embeddings: the model has weights already; vectors are for new items, see "
            "fit_partial"
        )
    try:
        if model.item_ids is None:
            model.start(job.dataset.log.item_ids, job.config.train.seed)
        job.console.line(fill(model, vectors, first).render(vectors))
    except InputError:
        if start is None:
            model.item_ids = None
        raise
    return job._replace(start=replace(start or Start(), vectors=vectors.sha256))


def _taken_up(path: Path, job: Job, state: checkpoint.State | None) -> Job:
    """A job as the run at `path` began it; where it has no state yet, with the weights, too."""
    start = read_start(path)
    if start is None or state is not None or not job.model.iterative:
        return job._replace(start=start)
    from .further import begin_again

    return begin_again(path, start, job)


def start_of(model: Model, optimizer: str = OPTIMIZERS[0]) -> Start:
    """What a training says that begins with the weights of a model."""
    model.require_weights()
    assert model.item_ids is not None
    run, path = ("", "") if model._came_from is None else model._came_from[:2]
    weights = checkpoint.digest(model.state_dict())
    return Start(weights, run, path, optimizer, len(model.item_ids) - 1)


def require_freezable(model: Model, freeze: str) -> None:
    """Refuse to freeze weights of a model that has none.

    Raises:
        InputError: it is not trained by updates.
    """
    if freeze != "none" and not model.iterative:
        raise InputError(f"freeze {freeze}: a {type(model).__name__} has no weights to train")


def _state_of(path: Path, model: Model) -> checkpoint.State | None:
    """The state of a run; None for one that begins again, since it died before it had any.

    Raises:
        InputError: the run was trimmed, and has none; or it is damaged.
    """
    if is_trimmed(path):
        raise InputError(f"{path}: trimmed, without weights: there is nothing to go on with")
    if not model.iterative or not any((path / name).exists() for name in (LAST, BEST)):
        return None
    return checkpoint.load_state(path / LAST)


def train_job(
    job: Job,
    directory: RunDirectory | None,
    callbacks: Sequence[Callback],
    state: checkpoint.State | None = None,
) -> dict[str, Any]:
    """Everything after model, data and directory are at hand."""
    if job.model.item_ids is None:
        job.model.start(job.dataset.log.item_ids, job.config.train.seed)
    try:
        with frozen(job.model, job.config.train.freeze):
            return _train(job, directory, callbacks, state)
    except LostProcess as error:
        kept = "the last state that was saved is kept; go on with"
        way_on = f"; {kept}: {resume_command(job.path)}" if job.path else ""
        raise RunError(f"{error}{way_on}") from None


def _train(
    job: Job,
    directory: RunDirectory | None,
    callbacks: Sequence[Callback],
    state: checkpoint.State | None,
) -> dict[str, Any]:
    model, dataset, config, device, console = job[:5]
    train, is_new = config.train, state is None
    run = identity(config, dataset.log.sha256, job.start)
    keeper: Keeper = InMemory() if directory is None else InDirectory(directory, run)
    if state is not None and state.run != run:
        raise InputError(
            "the state belongs to another run: of another configuration, seed or data than "
            "config.json and data.json name; were the run's files changed?"
        )
    if directory is not None and is_new:
        console.attach(directory.log)
        console.line(f"run: {directory.path}")
        begin_run(directory, config, dataset, job.start)
    model.to(device)
    if is_new:
        model.learn(dataset)
    step = training_step(model, train, job.group)
    if is_new and job.moments is not None:
        step.carry(job.moments)
    console.line(
        f"model={config.model.name} updates={step.updates_per_batch} "
        f"backend={_native.backend(train.backend, device)} device={device} "
        f"threads={torch.get_num_threads()} seed={train.seed}"
        + (f" processes={job.group.size}" if job.group.size > 1 else "")
        + ("" if train.precision == FLOAT32 else f" precision={train.precision}")
    )
    if step.note:
        console.line(f"note: {step.note}")
    progress = Progress() if state is None else state.progress
    own: list[Callback] = [
        EpochLines(console, Monitor.parse(train.monitor, train.cutoffs), train.epochs)
    ]
    if directory is not None:
        own.append(MetricsFiles(directory, progress.history))
    length = model.options.max_length
    samples = SampleTable.of(dataset, "train", length, device)
    assert samples is not None
    valid = SampleTable.of(dataset, "valid", length, device)
    training = Training(
        model=model,
        step=step,
        settings=train,
        train=samples,
        valid=None if valid is None else valid.some(train.valid_users, train.seed),
        progress=progress,
        keeper=keeper,
        observers=Observers(own, callbacks, keeper.way_on),
        console=console,
        stop=StopRequest(),
    )
    if state is not None:
        _restore(training, state)
    if state is not None and training.finished():
        console.line(f"note: {_why_finished(training)}")
    with training.stop:
        try:
            training.observers.started(configuration.to_dict(config), dataset.card.to_dict())
            if is_new and step.updates_per_batch:
                training.save()
            training.run()
        finally:
            _take_best(training)
            path = "" if directory is None else str(directory.path.resolve())
            model._came_from = Origin(run, path, partial(dict, step.state_dict()))
        return final_report(training, dataset, config, directory)


def _why_finished(training: Training) -> str:
    """Why a resumed training has nothing to do, and what would give it something."""
    progress, train = training.progress, training.settings
    if progress.epoch >= train.epochs:
        return f"all {train.epochs} epochs are done: --epochs N trains on"
    if training.steps_are_up:
        return f"all {train.max_steps} batches are done: --max-steps N trains on"
    return (
        f"stopped early, {progress.stale} epochs after the best one ({progress.best_epoch}): "
        f"--set patience=N with N above {progress.stale} trains on"
    )


def _take_best(training: Training) -> None:
    """The model ends with the best weights there are, whatever ended the training."""
    best = training.keeper.best()
    if best is not None:
        checkpoint.load_weights(training.model, best, "the best weights")
    training.model.eval()


def _restore(training: Training, state: checkpoint.State) -> None:
    """Puts a run back to where its state says, and its best weights with it."""
    checkpoint.load_weights(training.model, state.model, "the run's state")
    try:
        training.step.load_state_dict(state.optimizers)
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
        raise InputError(
            "the run's state: its optimizers are not those of this configuration; use another copy "
            "of the file"
        ) from None
    progress = state.progress
    if state.best is not None:
        training.save_best(progress, state.best)
    elif progress.best_epoch and progress.best_step == progress.step:
        training.save_best(progress)  # the process may have died between the two files
    several.share_best(training.group, training.keeper)
    if progress.best_epoch and isinstance(training.keeper, InDirectory):
        training.keeper.require_best()
    training.console.line(
        f"going on after epoch {progress.epoch}, batch {progress.batch} (step {progress.step})"
    )
