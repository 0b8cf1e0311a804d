"""What must hold after a run was cut off: it goes on to the same bits, or starts anew in its place.

Whoever was cut off types either the same command again or `--resume`; both must lead on, with at
most one message in between that says which of the two it is.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.small_runs import arguments, assert_same_run, write_log

from .processes import Commands, Ended

EPOCHS = 2


class Training(NamedTuple):
    """A small training: its command line without --out, and an undisturbed run of it."""

    log: Path
    options: tuple[str, ...]
    straight: Path

    def new(self, out: Path, epochs: int = EPOCHS) -> list[str]:
        return ["train", *arguments(self.log, out, "--epochs", str(epochs), *self.options)]

    def resumed(self, out: Path) -> list[str]:
        return ["train", "--resume", str(out), "--epochs", str(EPOCHS)]


def undisturbed(commands: Commands, folder: Path, *options: str) -> Training:
    """Trains a run that nothing disturbs."""
    log = write_log(folder / "log.txt", users=30, items=15)
    training = Training(log, options, folder / "straight")
    ended = commands.run(training.new(training.straight))
    assert ended.code == 0, ended.err
    return training


def require_clean(ended: Ended) -> None:
    """No traceback, no hang; an error is one message."""
    assert "Traceback" not in ended.err, ended.err
    assert ended.code >= 0 or not ended.err, f"ended by signal {-ended.code}: {ended.err}"
    assert ended.code in (-9, 0, 1, 2), ended
    if ended.code > 0:
        assert ended.err.count("error: ") == 1, ended.err


def require_recovered(commands: Commands, training: Training, out: Path) -> str:
    """Goes on as a person would, by both ways; how it went by `--resume`."""
    copy = out.with_name(out.name + "-copy")
    if out.exists():
        shutil.copytree(out, copy)
    again = commands.run(training.new(copy))
    require_clean(again)
    if again.code:
        assert again.code == 2 and "--resume" in again.err, again.err
    else:
        assert_same_run(training.straight, copy)
    shutil.rmtree(copy)
    how = "resumed"
    ended = commands.run(training.resumed(out))
    require_clean(ended)
    if ended.code:
        how = "begun anew"
        assert ended.code == 2 and again.code == 0, f"stuck: {ended.err}{again.err}"
    else:
        assert_same_run(training.straight, out)
    return how
