"""Killed at any moment, on a full disk, after a power loss: a run goes on or starts anew."""

from pathlib import Path

import pytest

from . import crashes
from .crashes import Work, crash_everywhere
from .kills import kill_at_random
from .power_loss import lose_power
from .processes import Action, Commands
from .recovery import Training, undisturbed


def test_a_new_training(commands: Commands, sasrec: Training, tmp_path: Path) -> None:
    work = crashes.new_training(commands, sasrec)
    counts = crash_everywhere(commands, tmp_path, work, number=24)
    assert counts["killed, resumed"] and counts["disk full, resumed"]


def test_a_resumed_training(commands: Commands, sasrec: Training, tmp_path: Path) -> None:
    work = crashes.resumed_training(commands, sasrec, tmp_path / "half")
    assert crash_everywhere(commands, tmp_path, work, number=8)["killed, resumed"]


def test_a_model_that_is_not_iterative(commands: Commands, tmp_path: Path) -> None:
    training = undisturbed(commands, tmp_path, "--model", "popularity")
    work = crashes.new_training(commands, training)
    assert crash_everywhere(commands, tmp_path / "in", work, number=8)["killed, resumed"]


@pytest.mark.parametrize("make", [crashes.saving, crashes.recommending])
def test_what_writes_files(
    commands: Commands, sasrec: Training, tmp_path: Path, make: Work
) -> None:
    counts = crash_everywhere(commands, tmp_path, make(commands, sasrec), number=16)
    assert counts["killed, made again"] and counts["disk full, made again"]


def test_reproduce(commands: Commands, sasrec: Training, tmp_path: Path) -> None:
    work = crashes.reproducing(commands, sasrec, tmp_path / "made")
    actions = (Action.KILL_HALFWAY, Action.REFUSE_FROM_HERE)
    counts = crash_everywhere(commands, tmp_path, work, actions=actions, number=3)
    assert counts.total() - counts["calls"] == 3


def test_random_kills(commands: Commands, sasrec: Training, tmp_path: Path) -> None:
    assert kill_at_random(commands, sasrec, tmp_path, 10)["resumed"]


def test_power_loss(commands: Commands, sasrec: Training, tmp_path: Path) -> None:
    assert lose_power(commands, sasrec, tmp_path, draws=2, number=20)["resumed"]
