"""Making the runs of a table that are missing, one after another, and saying how far it is.

A run is started and resumed exactly as `mclrec-fast train` does, so that this may be killed at any
moment and begun again.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from ..console import Console
from ..data import Dataset
from ..errors import RunError
from ..runs.directory import CONFIG, RESULT, read_json
from ..training import fit
from ..training.interrupt import Interrupted
from .plan import Planned, changes_on_resume, is_finished


def carry_out(runs: Sequence[Planned], out: Path, dataset: Dataset, console: Console) -> None:
    """Make every run that is not there yet.

    Args:
        runs: the runs of a table; one that stands there twice is made once.
        out: the results' directory.
        dataset: what they train on.
        console: where progress is said, and what each run says.

    Raises:
        InputError: a run of other settings or other data is there; nothing was run.
        RunError: a run failed.
        Interrupted: a signal ended it.
    """
    each = list({run.name: run for run in runs}.values())
    missing = [run for run in each if not is_finished(run, out, dataset)]
    console.line(f"{len(each)} runs, {len(each) - len(missing)} of them finished: {out / 'runs'}")
    for number, run in enumerate(missing):
        where = f"run {len(each) - len(missing) + number + 1} of {len(each)}: {run.name}"
        console.line(f"{where}; {_time_left(each, missing[number:], out)}")
        path = run.path(out)
        of_run = Console(console.stream)
        try:
            if (path / CONFIG).exists():
                fit.resume(path, changes_on_resume(run), of_run)
            else:
                fit.start(run.resolved, path, of_run)
        except RunError as error:
            raise RunError(f"{where}: {error}") from error
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted in {where}; the same command goes on from there",
                getattr(error, "exit_code", 130),
            ) from None


def _time_left(each: Sequence[Planned], missing: Sequence[Planned], out: Path) -> str:
    """How long the missing runs will take, going by those of the same model, else by any."""
    took: dict[str, list[float]] = {}
    for run in each:
        if run not in missing:
            took.setdefault(run.row.model, []).append(seconds_of(run, out))
    known = [seconds for some in took.values() for seconds in some if seconds > 0]
    if not known:
        return "the time left is known once a run is finished"
    mean = sum(known) / len(known)
    left = 0.0
    for run in missing:
        of_model = took.get(run.row.model)
        left += sum(of_model) / len(of_model) if of_model else mean
    done = time.strftime(
        "%H:%M" if left < 12 * 3600 else "%a %H:%M", time.localtime(time.time() + left)
    )
    return f"about {duration(left)} left, done at {done}"


def seconds_of(run: Planned, out: Path) -> float:
    """How long a finished run trained."""
    result = read_json(run.path(out) / RESULT)
    return float((result.get("seconds_per_epoch") or 0.0) * result.get("epochs", 0))


def duration(seconds: float) -> str:
    """As people say it."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
