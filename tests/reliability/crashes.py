"""Crash points: a command is killed, or the disk is full, at each of its calls on files.

"After" a call is "before" the next one on the disk, and is tried all the same in the long form.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .processes import Action, Commands
from .recovery import Training, require_clean, require_recovered
from .trace import Call, read_trace


class Point(NamedTuple):
    """What happens at which call."""

    action: Action
    number: int
    call: Call

    def __str__(self) -> str:
        return f"{self.action.name} at call {self.number}, {self.call}"


def points(calls: Sequence[Call], actions: Sequence[Action]) -> Iterator[Point]:
    """All crash points of a command whose calls are known."""
    for number, call in enumerate(calls, 1):
        for action in actions:
            if action == Action.KILL_HALFWAY and call.name != "write":
                continue
            if action >= Action.REFUSE_ONCE and not call.grows:
                continue
            yield Point(action, number, call)


def traced(commands: Commands, argv: list[str], below: Path, trace: Path) -> list[Call]:
    """The calls of a command that nothing disturbs."""
    ended = commands.run(argv, below=below, trace=trace)
    assert ended.code == 0, ended.err
    return read_trace(trace)


def some(every: Sequence[Point], number: int | None, seed: int) -> Sequence[Point]:
    """All of them, or that many drawn at random."""
    if number is None or number >= len(every):
        return every
    return random.Random(seed).sample(every, number)


Prepare = Callable[[Path], list[str]]  # makes a folder ready; the command line that works in it
Check = Callable[[Path, Path], str]  # of the folder, and of one where nothing was disturbed


class Work(NamedTuple):
    """A command whose crash points are tried: how it begins, and what must hold after a crash."""

    prepare: Prepare
    check: Check


def crash_everywhere(
    commands: Commands,
    folder: Path,
    work: Work,
    *,
    actions: Sequence[Action] = tuple(Action)[1:],
    number: int | None = None,
    seed: int = 0,
) -> Counter[str]:
    """A command at its crash points: all, or `number` of them. Returns what came of how many."""
    place, expected = folder / "place", folder / "expected"
    place.mkdir(parents=True)
    calls = traced(commands, work.prepare(place), place, folder / "trace")
    shutil.copytree(place, expected)
    counts: Counter[str] = Counter(calls=len(calls))
    for point in some([*points(calls, actions)], number, seed):
        shutil.rmtree(place)
        place.mkdir()
        argv = work.prepare(place)
        ended = commands.run(argv, below=place, action=point.action, at=point.number)
        try:
            require_clean(ended)
            killed = point.action < Action.REFUSE_ONCE
            assert killed == (ended.code == -9), ended
            how = work.check(place, expected)
        except AssertionError as error:
            raise AssertionError(f"{argv[0]}, {point}: {error}") from error
        counts[f"{'killed' if killed else 'disk full'}, {how}"] += 1
    shutil.rmtree(place)
    return counts


def new_training(commands: Commands, training: Training) -> Work:
    """A training from its beginning."""
    return Work(
        lambda place: training.new(place / "runs" / "run"),
        lambda place, _: require_recovered(commands, training, place / "runs" / "run"),
    )


def resumed_training(commands: Commands, training: Training, half: Path) -> Work:
    """The second epoch of a training; the run of the first is made in `half`."""
    ended = commands.run(training.new(half, epochs=1))
    assert ended.code == 0, ended.err

    def prepare(place: Path) -> list[str]:
        shutil.copytree(half, place / "run")
        return training.resumed(place / "run")

    return Work(prepare, lambda place, _: require_recovered(commands, training, place / "run"))


def saving(commands: Commands, training: Training) -> Work:
    """`Model.save` of a finished run."""
    return _again(commands, lambda place: ["save", str(training.straight), str(place / "saved")])


def recommending(commands: Commands, training: Training) -> Work:
    """`recommend --out`."""
    run = str(training.straight)
    return _again(commands, lambda place: ["recommend", run, "--out", str(place / "best.csv")])


def reproducing(commands: Commands, training: Training, made: Path) -> Work:
    """`reproduce`, once its runs are there; they are made in `made`."""

    def command(out: Path) -> list[str]:
        words = ["reproduce", "main", "--data", str(training.log), "--epochs", "1", "--out"]
        sizes = ["hidden_size=8", "inner_size=16", "max_length=10"]
        return [*words, str(out), "--threads", "1", *(f"--set={size}" for size in sizes)]

    ended = commands.run(command(made))
    assert ended.code == 0, ended.err

    def prepare(place: Path) -> list[str]:
        shutil.copytree(made / "runs", place / "out" / "runs")
        return command(place / "out")

    return _again(commands, prepare)


def _again(commands: Commands, prepare: Prepare) -> Work:
    """A command whose files are whole or not there, and that may be typed again."""
    typed: list[str] = []

    def remember(place: Path) -> list[str]:
        typed[:] = prepare(place)
        return typed

    def check(place: Path, expected: Path) -> str:
        again = commands.run(typed)
        require_clean(again)
        assert again.code in (0, 2), again.err
        for path in expected.rglob("*"):
            if path.is_file() and path.suffix not in (".lock", ".log"):
                found = place / path.relative_to(expected)
                assert found.exists(), f"{found} is missing: {again.err}"
                assert found.read_bytes() == path.read_bytes(), f"{found} differs: {again.err}"
        return "made again" if again.code == 0 else "there and whole"

    return Work(remember, check)
