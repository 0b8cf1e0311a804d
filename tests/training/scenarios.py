"""`python -m tests.training.scenarios FOLDER`: one of several processes that run command lines.

It reads FOLDER/scenarios.pickle, for each scenario a port and a command line for each process, runs
its own one after the other, and leaves what each said and its exit code in FOLDER.
"""

import contextlib
import io
import os
import pickle
import sys
from pathlib import Path
from typing import NamedTuple

from mclrec_fast.commands import train


class Outcome(NamedTuple):
    """How a command ended in one process."""

    code: int
    out: str
    err: str


def main(folder: Path) -> None:
    """Run this process's commands."""
    number = int(os.environ["RANK"])
    outcomes = {}
    for name, (port, lines) in pickle.loads((folder / "scenarios.pickle").read_bytes()).items():
        os.environ["MASTER_PORT"] = str(port)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = train.main(lines[number])
        outcomes[name] = (code, out.getvalue(), err.getvalue())
    (folder / f"outcomes-{number}.pickle").write_bytes(pickle.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
