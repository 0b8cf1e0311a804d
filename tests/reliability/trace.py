"""What interpose.c wrote down: the calls of a command on its files, with what was written."""

import os
from pathlib import Path
from typing import NamedTuple


class Call(NamedTuple):
    """One call.

    Attributes:
        name: open, missed (an open or mkdir that failed), write, fsync, rename, unlink, mkdir.
        file: the descriptor, where it has one.
        flags: those of an open.
        path: what it is about; a descriptor's is the one it was opened by.
        other: the new name of a rename; "new" where an open made the file.
        content: what was written.
    """

    name: str
    file: int
    flags: int
    path: str
    other: str
    content: bytes

    @property
    def grows(self) -> bool:
        """Whether a full disk may refuse it."""
        return self.name in ("write", "fsync", "rename", "mkdir") or self.other == "new"

    def __str__(self) -> str:
        return f"{self.name} {Path(self.path).name} {Path(self.other).name}".strip()


def read_trace(path: Path) -> list[Call]:
    """All calls in order."""
    calls, files = [], {}
    with open(path, "rb") as file:
        while line := file.readline():
            name, a, b, where, other = os.fsdecode(line.rstrip(b"\n")).split("\t")
            content = file.read(int(b)) if name == "write" else b""
            if name == "open":
                files[int(a)] = where
            if name in ("write", "fsync"):
                where = files[int(a)]
            flags = int(b) if name in ("open", "missed") else 0
            calls.append(Call(name, int(a), flags, where, other, content))
    return calls
