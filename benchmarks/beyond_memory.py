"""A log larger than one would hold in memory: generated, prepared, trained on; time and memory.

    python -m benchmarks.beyond_memory --rows 200_000_000 --users 5_000_000 --items 1_000_000

Each step is a process of its own, watched from outside: anonymous memory apart from mapped files,
whose pages the system takes back when it needs them. What was written is removed at the end.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 20
_FIRST_ID = 10_000_000
_FIRST_TIME = 1_500_000_000


def generate(path: Path, rows: int, users: int, items: int, seed: int = 0) -> None:
    """Writes a CSV file in order of time, some rows at a time.

    A few users and items have many rows: number n of N is drawn as (n / N) ** 2 of uniform numbers.
    """
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(b"user,item,time\n")
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            drawn = rng.random((2, count)) ** 2
            columns = (
                _FIRST_ID + (drawn[0] * users).astype(np.int64),
                _FIRST_ID + (drawn[1] * items).astype(np.int64),
                _FIRST_TIME + (np.arange(first, first + count) >> 2),
            )
            file.write(_lines(columns).tobytes())


def _lines(columns: tuple[NDArray[np.int64], ...]) -> NDArray[np.uint8]:
    """Numbers of one width a column as lines of text, uint8 [rows, bytes]."""
    parts = []
    for column, mark in zip(columns, b",,\n", strict=True):
        digits = len(str(int(column[0])))
        text = np.empty((len(column), digits + 1), np.uint8)
        left = column
        for end in range(digits, 0, -4):  # four digits at a time
            left, group = np.divmod(left, 10_000)
            width = min(end, 4)
            text[:, end - width : end] = _FOUR[group, 4 - width :]
        text[:, digits] = mark
        parts.append(text)
    return np.concatenate(parts, 1)


_FOUR = np.frombuffer(b"".join(b"%04d" % n for n in range(10_000)), np.uint8).reshape(-1, 4)


class Taken(NamedTuple):
    """What a process took: seconds, and the most MiB of each kind of memory."""

    seconds: float
    resident: float
    anonymous: float
    mapped: float


def watched(command: list[str]) -> Taken:
    """Runs a command to its end, looking at its memory ten times a second.

    Raises:
        SystemExit: it failed.
    """
    started, most = time.perf_counter(), {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            for line in status.splitlines():
                name, _, value = line.partition(":")
                if name in most:
                    most[name] = max(most[name], int(value.split()[0]))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.returncode)
    return Taken(time.perf_counter() - started, *(value / 1024 for value in most.values()))


def main() -> None:
    """Generate, prepare, train, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--set", action="append", default=[], help="a key for the training")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="beyond-", dir=arguments.place))
    try:
        log, made = folder / "log.csv", folder / "log"
        generate(log, arguments.rows, arguments.users, arguments.items)
        size = log.stat().st_size / 2**20
        print(f"{arguments.rows} rows, {size:.0f} MiB of text", flush=True)
        run = [sys.executable, "-m"]
        prepare = [str(log), "--out", str(made), "--holdout", "none"]
        say("prepare", watched([*run, "mclrec_fast.prepare", *prepare]))
        log.unlink()
        size = sum(path.stat().st_size for path in made.iterdir()) / 2**20
        print(f"prepared: {size:.0f} MiB", flush=True)
        settings = [word for value in arguments.set for word in ("--set", value)]
        train = ["--data", str(made), "--max-steps", str(arguments.steps), *settings]
        out = ["--out", str(folder / "run")]
        say("train", watched([*run, "mclrec_fast.train", *train, *out]))
    finally:
        shutil.rmtree(folder)


def say(name: str, taken: Taken) -> None:
    """One line."""
    print(
        f"{name}: {taken.seconds:.1f} s; peak resident {taken.resident:.0f} MiB, anonymous "
        f"{taken.anonymous:.0f}, mapped files {taken.mapped:.0f} ({os.cpu_count()} cores)",
        flush=True,
    )


if __name__ == "__main__":
    main()
