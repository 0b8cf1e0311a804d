"""Command lines as processes that can be killed, or refused a call, at a chosen moment.

A server with interpose.c preloaded imports everything once; each command is a fork of it, a fifth
of a second where a new interpreter takes three. Needs Linux and a C compiler.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("interpose.c")
PATIENCE = 120.0  # seconds after which a command hangs


class Action(IntEnum):
    """What happens at the chosen call; the numbers are those of interpose.c."""

    NOTHING = 0
    KILL_BEFORE = 1
    KILL_HALFWAY = 2
    KILL_AFTER = 3
    REFUSE_ONCE = 4
    REFUSE_FROM_HERE = 5


class Ended(NamedTuple):
    """How a command ended: its exit code (negative: the signal), and what it said."""

    code: int
    out: str
    err: str


def why_not() -> str:
    """Why no command can be interposed here; empty where it can."""
    if sys.platform != "linux":
        return "interposing calls needs Linux"
    return "" if compiler() else "interposing calls needs a C compiler"


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


class Commands:
    """The client of a server in a process of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mclrec-interpose-"))
        library = self._folder / "interpose.so"
        build = [compiler() or "cc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
        subprocess.run([*build, str(SOURCE), "-o", str(library), "-ldl"], check=True)
        self._server = subprocess.Popen(
            [sys.executable, "-c", "from tests.reliability.processes import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
        )

    def run(
        self,
        argv: list[str],
        *,
        below: Path | None = None,
        action: Action = Action.NOTHING,
        at: int = 0,
        trace: Path | None = None,
        kill_after: float = 0.0,
    ) -> Ended:
        """Runs a command line.

        Args:
            argv: a verb and its arguments, or `save RUN DIR` for `Model.save`.
            below: the folder whose calls are numbered.
            action: what happens at one of them.
            at: which, from 1.
            trace: where they are written down.
            kill_after: seconds after which the process is killed; 0 for never.
        """
        request = {
            "argv": argv,
            "below": str(below or ""),
            "action": int(action),
            "at": at,
            "trace": str(trace or ""),
            "kill_after": kill_after,
            "folder": str(self._folder),
        }
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        code = json.loads(self._server.stdout.readline())
        said = [
            (self._folder / name).read_text("utf-8", "backslashreplace") for name in ("out", "err")
        ]
        return Ended(code, *said)

    def close(self) -> None:
        """Ends the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(600)
        shutil.rmtree(self._folder)

    def __enter__(self) -> "Commands":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def serve() -> None:
    """Forks a child for each line of standard input, and answers with its exit code."""
    import mclrec_fast.commands.recommend
    import mclrec_fast.commands.reproduce
    import mclrec_fast.reproduction.plots
    import mclrec_fast.training.fit  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = _fork()
        if child == 0:
            _child(request)
        ended = threading.Event()
        limit = request["kill_after"] or PATIENCE
        timer = threading.Thread(target=_kill_unless, args=(ended, child, limit))
        timer.start()
        _, status = os.waitpid(child, 0)
        ended.set()
        timer.join()
        answers.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        answers.flush()


def _kill_unless(ended: threading.Event, child: int, limit: float) -> None:
    """Kills the child after so many seconds; a pause of all these processes counts as one."""
    while limit > 0:
        step = min(limit, 1.0)
        if ended.wait(step):
            return
        limit -= step
    os.kill(child, signal.SIGKILL)


def _fork() -> int:
    """A fork; waits where the machine has no process to spare at the moment."""
    for _ in range(100):
        try:
            return os.fork()
        except BlockingIOError:
            time.sleep(0.1)
    return os.fork()


def _child(request: dict[str, Any]) -> None:
    """Runs one command line and ends this process."""
    code = 1
    try:
        folder = request["folder"]
        for target, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), target)
        trace = -1
        if request["trace"]:
            trace = os.open(request["trace"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        start = ctypes.CDLL(None).interpose_start
        start.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]
        start(request["below"].encode(), request["action"], request["at"], trace)
        code = _command(request["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(argv: list[str]) -> int:
    if argv[0] == "save":
        import mclrec_fast
        from mclrec_fast.commands.cli import run_verb

        run, to = argv[1:]
        return run_verb(lambda _: mclrec_fast.load(run).save(to), [])
    from mclrec_fast.commands import main

    return main(argv)
