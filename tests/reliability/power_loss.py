"""Simulated power loss: what was written and not yet synced is lost, torn or reordered.

The calls of a training are replayed up to a moment on a model of a disk that promises no more than
POSIX does: content is there once its file is synced, a name once its directory is; before that any
part of it may be there, in any order. What the disk then holds must be a run that can go on.
"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .crashes import traced
from .processes import Commands
from .recovery import Training, require_recovered
from .trace import Call

FOLDER = -1


@dataclass
class Disk:
    """Files by number. `names` is what a process sees, `synced` what is sure to outlive it."""

    contents: list[bytes] = field(default_factory=list)
    safe: list[int] = field(default_factory=list)  # bytes of each that are synced
    names: dict[str, int] = field(default_factory=dict)
    synced: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, dict[str, int | None]]] = field(default_factory=list)
    opened: dict[int, int] = field(default_factory=dict)

    def _change(self, where: str, entries: dict[str, int | None]) -> None:
        _apply(self.names, entries)
        self.pending.append((os.path.dirname(where), entries))

    def replay(self, call: Call) -> None:
        """Does what a call did."""
        if call.name == "open":
            if call.other == "new":
                self.contents.append(b"")
                self.safe.append(0)
                self._change(call.path, {call.path: len(self.contents) - 1})
            assert not call.flags & os.O_TRUNC, f"{call}: no file is written over in place"
            self.opened[call.file] = self.names.get(call.path, FOLDER)
        elif call.name == "write":
            self.contents[self.opened[call.file]] += call.content
        elif call.name == "fsync":
            self._sync(self.opened[call.file], call.path)
        elif call.name == "rename":
            self._change(call.other, {call.other: self.names[call.path], call.path: None})
        elif call.name == "unlink":
            self._change(call.path, {call.path: None})
        elif call.name == "mkdir":
            self._change(call.path, {call.path: FOLDER})

    def _sync(self, number: int, path: str) -> None:
        if number != FOLDER:
            self.safe[number] = len(self.contents[number])
            return
        for where, entries in self.pending:
            if where == path:
                _apply(self.synced, entries)
        self.pending = [change for change in self.pending if change[0] != path]

    def after_power_loss(self, chance: random.Random | None) -> dict[str, bytes | None]:
        """What is left, by path, None for folders: what was synced and, by chance, some more."""
        names = dict(self.synced)
        for _, entries in self.pending:
            if chance is not None and chance.random() < 0.5:
                _apply(names, entries)
        found: dict[str, bytes | None] = {}
        for path in sorted(names):
            parent = os.path.dirname(path)
            if parent in self.names and parent not in found:
                continue  # its folder is gone
            number = names[path]
            found[path] = None if number == FOLDER else self._rest(number, chance)
        return found

    def _rest(self, number: int, chance: random.Random | None) -> bytes:
        """A file's synced bytes and, by chance, some of the others, or zeros in their place."""
        content, safe = self.contents[number], self.safe[number]
        if chance is None or safe == len(content):
            return content[:safe]
        size = chance.choice([safe, len(content), chance.randint(safe, len(content))])
        torn = chance.choice([size, safe, chance.randint(safe, size)])
        return content[:torn] + bytes(size - torn)


def _apply(names: dict[str, int], entries: dict[str, int | None]) -> None:
    for path, number in entries.items():
        if number is None:
            names.pop(path, None)
        else:
            names[path] = number


def moments(calls: Sequence[Call], draws: int, seed: int) -> Iterator[dict[str, bytes | None]]:
    """Disks after a power loss at every call: the least that is left, and random draws of more."""
    chance = random.Random(seed)
    disk = Disk()
    for call in calls:
        yield disk.after_power_loss(None)
        for _ in range(draws):
            yield disk.after_power_loss(chance)
        disk.replay(call)
    yield disk.after_power_loss(None)


def lay(files: dict[str, bytes | None], place: Path) -> None:
    """Makes these files and folders, and no others, of `place`."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for path, content in files.items():
        if content is None:
            Path(path).mkdir(exist_ok=True)
        else:
            Path(path).write_bytes(content)


def lose_power(
    commands: Commands,
    training: Training,
    work: Path,
    draws: int,
    number: int | None = None,
    seed: int = 0,
) -> Counter[str]:
    """Power losses throughout a training: all distinct disks, or `number` of them."""
    place = work / "place"
    place.mkdir()
    out = place / "runs" / "run"
    calls = traced(commands, training.new(out), place, work / "trace")
    found = list(moments(calls, draws, seed))
    last = found[-1]
    kept = {os.path.basename(path) for path, content in last.items() if content is not None}
    there = {path.name for path in out.iterdir()}
    assert kept == there, f"of a finished run a power loss takes {there - kept}"
    distinct = list({tuple(disk.items()): disk for disk in found}.values())
    counts: Counter[str] = Counter(disks=len(distinct))
    if number is not None and number < len(distinct):
        distinct = random.Random(seed).sample(distinct, number)
    for disk in distinct:
        lay(disk, place)
        try:
            counts[require_recovered(commands, training, out)] += 1
        except AssertionError as error:
            held = {path: content and len(content) for path, content in disk.items()}
            raise AssertionError(f"the disk held {held}: {error}") from error
    shutil.rmtree(place)
    return counts
