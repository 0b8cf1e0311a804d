"""A search for settings: every trial a run like any other, judged by its validation alone.

optuna draws and prunes; its journal in the search's folder is the whole state, so that the same
command goes on where it stopped. The test targets are taken out of the data before anything is
trained. Which space is searched, and in which order, does not depend on interruptions.
"""

import json
import math
import os
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from . import config as configuration
from ._files import make_directory
from .config import Config, TrainConfig, keys_of
from .config_keys import Given, show
from .console import Console
from .data import Dataset
from .errors import InputError, RunError
from .metrics import Monitor
from .models import model_class
from .runs.directory import CONFIG, METRICS
from .training.interrupt import Interrupted
from .training.machine import all_cores, require_machine
from .training.observers import Callback

JOURNAL = "tune.journal"
_DEFAULT_SPACE = {
    "learning_rate": "3e-4..3e-3:log",
    "batch_size": "128,256,512",
    "layers": "1,2,3",
    "heads": "1,2,4",
    "hidden_dropout": "0.1..0.6",
    "attention_dropout": "0.1..0.6",
    "lambda": "0.01..0.5:log",
    "beta": "0.01..0.5:log",
}
_STARTUP = 4  # trials that nothing is pruned before
_WARM_UP = 2  # epochs that no trial is pruned in


class Range(NamedTuple):
    """What a key may be: one of some values, or anything from low to high."""

    key: str
    values: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None
    log: bool = False

    def __str__(self) -> str:
        if self.values:
            return ",".join(map(show, self.values))
        return f"{show(self.low)}..{show(self.high)}" + (":log" if self.log else "")

    def draw(self, trial: Any) -> Any:
        """A value of an optuna trial."""
        if self.values:
            return trial.suggest_categorical(self.key, list(self.values))
        if isinstance(self.low, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


class Trial(NamedTuple):
    """One trial: its number, how it ended, the best monitored value, its settings and its run."""

    number: int
    state: str
    value: float | None
    settings: dict[str, Any]
    run: Path


class Search(NamedTuple):
    """What is searched.

    Attributes:
        config: the configuration of some settings by key.
        space: what is drawn.
        fixed: what is the same in every trial, for messages and to know the search again.
    """

    config: Callable[[Mapping[str, Any]], Config]
    space: tuple[Range, ...]
    fixed: dict[str, Any]


def require_optuna() -> Any:
    """optuna, of the `tune` extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError('tune needs optuna: pip install "mclrec_fast[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


# The space.


def default_space(model: str, fixed: Mapping[str, Any]) -> dict[str, str]:
    """What is searched for a model where nobody says more: keys it has and nobody fixed."""
    keys = keys_of(model)
    space = {k: v for k, v in _DEFAULT_SPACE.items() if k in keys and k not in fixed}
    width = fixed.get("hidden_size", keys["hidden_size"].default if "hidden_size" in keys else 1)
    if "heads" in space:
        space["heads"] = ",".join(h for h in space["heads"].split(",") if width % int(h) == 0)
    return space


def read_space(given: Sequence[str]) -> dict[str, str]:
    """Ranges as they were written, by key, from `key=low..high` words and TOML files.

    Raises:
        InputError: a file that cannot be read, a word of neither form, a key twice.
    """
    space: dict[str, str] = {}
    for word in given:
        key, equals, text = word.partition("=")
        found = {key.strip(): text.strip()} if equals else _read_toml(Path(word))
        for name, value in found.items():
            if name in space:
                raise InputError(f"--space: {name} is given twice: keep one")
            space[name] = value
    return space


def _read_toml(path: Path) -> dict[str, str]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"--space {path}: expected key=low..high, key=a,b,c or a TOML file "
            f"({error.strerror or error})"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"--space {path}: not valid TOML: {error}") from None
    return _as_texts(tree)


def parse_space(texts: Mapping[str, str], model: str) -> tuple[Range, ...]:
    """Ranges, their ends checked as values of their keys.

    Raises:
        InputError: no such key, a value out of its range, an empty range.
    """
    return tuple(_range(key, text, model) for key, text in texts.items())


def _range(key: str, text: str, model: str) -> Range:
    origin = f"--space {key}"

    def value(word: str) -> Any:
        given = {"model": Given(model, "--model"), key: Given(word.strip(), origin, text=True)}
        return next(g.value for n, g in configuration.checked(given).items() if n != "model")

    if key in ("model", "data", "dataset", "seed", "epochs"):
        raise InputError(f"{origin}: is the same in every trial: give it as an option")
    name = configuration.find_key(key, origin, model).name
    words, _, how = text.partition(":")
    low, dots, high = words.partition("..")
    if how not in ("", "log") or (how and not dots):
        raise InputError(f"{origin}={text}: expected low..high, low..high:log or a,b,c")
    if not dots:
        return Range(name, tuple(dict.fromkeys(value(word) for word in words.split(","))))
    ends = value(low), value(high)
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise InputError(f"{origin}={text}: a range is of numbers; list the values: a,b,c")
    if ends[0] >= ends[1] or (how and ends[0] <= 0):
        need = "0 < low < high" if how else "low < high"
        raise InputError(f"{origin}={text}: expected {need}")
    return Range(name, (), *ends, how == "log")


# The search.


def tune(
    dataset: Dataset,
    model: str = "mclrec",
    *,
    trials: int = 20,
    out: str | os.PathLike[str],
    space: Mapping[str, Any] | None = None,
    verbose: bool = True,
    **settings: Any,
) -> list[Trial]:
    """Search for the settings of a model, as `mclrec-fast tune` does.

    Args:
        dataset: its test targets are not looked at.
        model: the model's name.
        trials: in all, those of earlier calls with this `out` included.
        out: the search's folder; each trial's run lies in it.
        space: `"low..high"`, `"low..high:log"` or a list of values by key; None for the usual keys.
        verbose: say lines on stdout.
        settings: what is the same in every trial, keys of the model and of training.

    Returns:
        All trials; see `best_of`.

    Raises:
        InputError: a bad setting or range, nothing validates, or the folder holds another search.
        KeyboardInterrupt: a signal; the same call goes on.
    """
    given = {key.rstrip("_"): Given(value, "tune") for key, value in settings.items()}
    fixed = {
        key: value.value
        for key, value in configuration.checked({"model": Given(model, "tune"), **given}).items()
    }
    texts = default_space(model, fixed) if space is None else _as_texts(space)
    ranges = parse_space(texts, model)
    for part in ranges:
        if part.key in fixed:
            raise InputError(f"tune: {part.key} is fixed and searched: keep one of the two")

    of_machine = ("device", "backend", "precision")
    require_machine(TrainConfig(**{name: fixed[name] for name in of_machine if name in fixed}))

    def config_of(drawn: Mapping[str, Any]) -> Config:
        return all_cores(configuration.build({**fixed, **drawn}))

    console = Console() if verbose else Console.silent()
    return search(Search(config_of, ranges, fixed), dataset, trials, Path(out), console)


def _as_texts(space: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for key, value in space.items()
    }


def search(
    wanted: Search, dataset: Dataset, trials: int, out: Path, console: Console
) -> list[Trial]:
    """Goes on until so many trials have ended; returns all of them.

    Args:
        wanted: what is searched.
        dataset: its test targets are not looked at.
        trials: in all, those of earlier calls included.
        out: the search's folder; each trial's run lies in it.
        console: what is said.

    Raises:
        InputError: nothing validates, or the folder holds another search.
        Interrupted: a signal; the same call goes on.
    """
    optuna = require_optuna()
    if dataset.split.valid is None or not dataset.split.valid.size:
        raise InputError("tune chooses by the validation, and nothing is held out for it")
    dataset = replace(dataset, split=dataset.split._replace(test=None))
    study = _study(optuna, wanted, dataset, out)
    with console.progress("trials", trials, len(_ended(study))) as advance:
        while (ended := len(_ended(study))) < trials:
            trial = _next_trial(optuna, study, wanted)
            run = out / f"trial-{trial.number:03d}"
            _one(optuna, study, trial, wanted, dataset, run, console)
            console.line(_said(_found(out, study.trials[trial.number])))
            advance(len(_ended(study)) - ended)
    return [_found(out, trial) for trial in study.trials]


def _study(optuna: Any, wanted: Search, dataset: Dataset, out: Path) -> Any:
    """The study in a folder, new or again.

    Raises:
        InputError: it is another search's.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    what = {
        "space": {range.key: str(range) for range in wanted.space},
        "fixed": {key: show(value) for key, value in wanted.fixed.items()},
        "data": dataset.log.sha256,
    }
    journal = out / JOURNAL
    if not journal.exists() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is there and holds no search ({JOURNAL}): choose another")
    try:
        make_directory(out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna's, of what it calls experimental
            storage = JournalStorage(JournalFileBackend(str(journal)))
            study = optuna.create_study(
                storage=storage,
                study_name="tune",
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(_STARTUP, _WARM_UP),
            )
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror or error}") from None
    before = study.user_attrs.get("what")
    if before is None:
        study.set_user_attr("what", what)
    elif before != what:
        part = next(key for key in what if before.get(key) != what[key])
        raise InputError(
            f"--out {out}: holds a search with another {part} ({json.dumps(before.get(part))}, not "
            f"{json.dumps(what[part])}): give the same command, or another --out"
        )
    return study


def _ended(study: Any) -> list[Any]:
    return [trial for trial in study.trials if trial.state.is_finished()]


def _next_trial(optuna: Any, study: Any, wanted: Search) -> Any:
    """The trial that was stopped in the middle, or else a new one with its settings drawn."""
    for frozen in study.trials:
        if frozen.state == optuna.trial.TrialState.RUNNING:
            trial = optuna.trial.Trial(study, frozen._trial_id)
            break
    else:
        # By the number of the trial, so that an interruption changes no draw.
        seed = 1 + len(study.trials)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)
        trial = study.ask()
    for range in wanted.space:
        range.draw(trial)
    return trial


class _Pruned(BaseException):
    """Ends a training from a callback; no `Exception`, which would count as the callback's."""


class _Pruner(Callback):
    """Tells optuna of every epoch, and ends a trial that is worse than most were by then."""

    def __init__(self, trial: Any, monitor: Monitor, known: set[int]) -> None:
        self._trial, self._monitor, self._known = trial, monitor, known

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        if record["valid"] is None or record["epoch"] in self._known:
            return
        self._trial.report(self._monitor.value(record["valid"]), record["epoch"])
        if self._trial.should_prune():
            raise _Pruned


def _one(
    optuna: Any,
    study: Any,
    trial: Any,
    wanted: Search,
    dataset: Dataset,
    run: Path,
    console: Console,
) -> None:
    """Trains one trial, or goes on with it, and tells optuna how it ended."""
    states = optuna.trial.TrialState
    again = (run / CONFIG).exists()
    try:
        config = wanted.config(trial.params)
        monitor = Monitor.parse(config.train.monitor, config.train.cutoffs)
        known = set(study.trials[trial.number].intermediate_values)
        model = model_class(config.model.name)(config.model)
        settings = {name: v for name, v in asdict(config.train).items() if v is not None}
        shown = " ".join(f"{key}={short(value)}" for key, value in trial.params.items())
        console.line(f"trial {trial.number}{' goes on' if again else ''}: {shown}")
        model.fit(
            dataset,
            run=run,
            resume=again,
            callbacks=[_Pruner(trial, monitor, known)],
            verbose=False,
            **settings,
        )
    except Interrupted as stopped:
        raise Interrupted(
            f"stopped in trial {trial.number}, {len(_ended(study))} have ended; give the same "
            "command again to go on",
            stopped.exit_code,
        ) from None
    except _Pruned:
        study.tell(trial, state=states.PRUNED)
    except (InputError, RunError) as error:
        console.line(f"trial {trial.number} failed: {error}")
        study.tell(trial, state=states.FAIL)
    else:
        study.tell(trial, _best(run, monitor))


def _best(run: Path, monitor: Monitor) -> float:
    """The best monitored value of a run's epochs."""
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    return max(monitor.value(record["valid"]) for record in map(json.loads, lines))


def _found(out: Path, frozen: Any) -> Trial:
    value = frozen.value
    if value is None and frozen.intermediate_values:
        value = max(frozen.intermediate_values.values())
    run = out / f"trial-{frozen.number:03d}"
    return Trial(frozen.number, frozen.state.name.lower(), value, dict(frozen.params), run)


def _said(trial: Trial) -> str:
    value = "-" if trial.value is None else f"{trial.value:.4f}"
    return f"trial {trial.number}: {trial.state}, {value}"


def short(value: Any) -> str:
    """A drawn value for a table; its digits are in the journal."""
    return f"{value:.3g}" if isinstance(value, float) else show(value)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial of the highest value; the first of equals."""
    whole = [trial for trial in trials if trial.state == "complete"]
    return max(whole, key=lambda trial: trial.value or -math.inf, default=None)
