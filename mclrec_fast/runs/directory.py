"""The run directory: one place that holds everything a run leaves behind.

Every file but the logs is replaced atomically, so that a reader, or a run killed at any moment,
meets the old content or the new one. A lock keeps two processes from writing to one directory. What
the files mean is the business of the callers; the state file itself is checkpoint.py's.
"""

import contextlib
import csv
import errno
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from .. import _files
from ..config import Config, to_dict
from ..console import ESCAPED
from ..errors import InputError, RunError

CONFIG = "config.json"
ENVIRONMENT = "env.json"
METRICS = "metrics.jsonl"
METRICS_TABLE = "metrics.csv"
BEST = "best.safetensors"
LAST = "last.safetensors"
RESULT = "result.json"
LOG = "train.log"
LOCK = "run.lock"
DATA = "data.json"
SAVED = "saved"  # the format in data.json of what `Model.save` leaves

# Not the best weights: without a configuration they are what an unfinished `save` leaves.
_MARKS_OF_A_RUN = (CONFIG, LAST, RESULT, METRICS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` while writing `path` into a `RunError` that names it and the remedy."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        remedy = "free some space" if full else "make the directory writable"
        resumable = (path.parent / LAST).exists()
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; {remedy}, then "
            + (
                f"go on from the last good state: --resume {path.parent}"
                if resumable
                else "start anew"
            )
        ) from error


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that replaces one of a run when this is left, all or nothing.

    Raises:
        RunError: the disk is full or refuses; the old file, if any, is untouched.
    """
    with writing(path), _files.writing_atomically(path) as file:
        yield file


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file of a run by `content`; see `new_file`."""
    with new_file(path) as file:
        file.write(content)


def json_bytes(value: Any) -> bytes:
    """Readable JSON with a final newline; a value that is not finite is an error."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode("utf-8", ESCAPED)  # a name that is not UTF-8: its escapes are JSON's


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level: `{"valid": {"masked": x}}` becomes `{"valid.masked": x}`."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def default_path(data: str, model: str, root: Path = Path("runs")) -> Path:
    """`runs/<data>-<model>-<time>`, with a number behind it when that is taken."""
    stem = f"{data}-{model}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = root / stem, 2
    while path.exists():
        path, number = root / f"{stem}-{number}", number + 1
    return path


class RunDirectory:
    """A run's directory, held by this process until it is closed.

    Use :meth:`create` for a new run and :meth:`open` for one that exists; the constructor is
    theirs.
    """

    def __init__(self, path: Path, lock: IO[str], log: IO[str]) -> None:
        """Takes over both open files, the first of them locked."""
        self.path = path
        self._lock, self._log = lock, log

    @staticmethod
    def check_free(path: Path, origin: str = "--out") -> None:
        """Refuses a path that cannot become a new run's directory; writes nothing.

        Args:
            path: the directory.
            origin: the argument it came from, for messages.

        Raises:
            InputError: the path holds a run already, or is not a directory.
        """
        if path.exists() and not path.is_dir():
            raise InputError(f"{origin} {path}: exists and is not a directory")
        for name in _MARKS_OF_A_RUN:
            if (path / name).exists():
                saved = is_saved_model(path)
                if saved or origin == "save":
                    raise InputError(
                        f"{origin} {path}: already holds a {'saved model' if saved else 'run'} "
                        f"({name}); choose another directory, or take that one away first"
                    )
                resume = "--resume" if origin == "--out" else "resume=True, or --resume"
                raise InputError(
                    f"{origin} {path}: already holds a run ({name}); choose another directory, or "
                    f"go on with that run: {resume} {path}"
                )

    @classmethod
    def create(cls, path: Path, origin: str = "--out") -> "RunDirectory":
        """A new run's directory, made with its parents.

        Raises:
            InputError: the path holds a run already, is not a directory or cannot be made.
        """
        cls.check_free(path, origin)
        try:
            _files.make_directory(path)
        except OSError as error:
            raise InputError(f"{origin} {path}: {error.strerror or error}") from None
        run = cls._locked(path)
        cls.check_free(path, origin)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The directory of a run that exists, for going on with it.

        Raises:
            InputError: there is no run, or another process is at it.
        """
        require_run(path, "--resume")
        refuse_saved_model(
            path, "--resume", f"a new one begins with its weights: --from {path} --data FILE"
        )
        run = cls._locked(path)
        _files.remove_leftovers(path)
        return run

    @classmethod
    def _locked(cls, path: Path) -> "RunDirectory":
        with contextlib.ExitStack() as files:
            try:
                # A file of its own: the log may be moved away while the run goes on.
                lock = files.enter_context(open(path / LOCK, "a", encoding="utf-8"))
                _lock(lock, path)
                log = files.enter_context(open(path / LOG, "a", encoding="utf-8", errors=ESCAPED))
            except OSError as error:
                raise InputError(f"{path}: cannot write there: {error.strerror or error}") from None
            files.pop_all()
        return cls(path, lock, log)

    def close(self) -> None:
        """Lets go of the directory."""
        for file in (self._log, self._lock):
            with contextlib.suppress(OSError):  # what a full disk refused was said when written
                file.close()

    def __enter__(self) -> "RunDirectory":
        """The directory itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def log(self, line: str) -> None:
        """Appends a line to train.log."""
        with writing(self.path / LOG):
            self._log.write(line + "\n")
            self._log.flush()

    def write_json(self, name: str, value: Any) -> None:
        """Replaces a JSON file atomically."""
        write_atomically(self.path / name, json_bytes(value))

    def write_config(self, config: Config) -> None:
        """Replaces config.json; the paths in it are whole, to be found from any folder."""
        data = replace(
            config.data,
            data=_whole(config.data.data),
            more=tuple(str(Path(path).resolve()) for path in config.data.more),
        )
        train = replace(
            config.train,
            item_embeddings=_whole(config.train.item_embeddings),
            item_ids=_whole(config.train.item_ids),
        )
        config = replace(config, data=data, train=train)
        self.write_json(CONFIG, to_dict(config))

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Replaces metrics.jsonl and metrics.csv by these records."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in history)
        write_atomically(self.path / METRICS, lines.encode())
        table = io.StringIO()
        if history:
            rows = [flatten(record) for record in history]
            names = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(table, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_atomically(self.path / METRICS_TABLE, table.getvalue().encode("utf-8", ESCAPED))


def _whole(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _lock(file: IO[str], path: Path) -> None:
    """Holds a lock on an open file until it is closed; where there are no locks, nothing.

    Raises:
        InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(f"{path}: another process is writing to this run") from None


def require_run(path: Path, origin: str) -> None:
    """Refuses a path that holds no run.

    Raises:
        InputError: naming `origin`, the argument the path came from.
    """
    if not path.is_dir():
        raise InputError(f"{origin} {path}: no such directory")
    if not (path / CONFIG).is_file():
        raise InputError(f"{origin} {path}: holds no run ({CONFIG} is missing)")


def is_saved_model(path: Path) -> bool:
    """Whether a directory is what `Model.save` left: weights, and no run that could go on."""
    try:
        card = read_json(path / DATA)
    except InputError:
        return False
    return isinstance(card, Mapping) and card.get("format") == SAVED


def refuse_saved_model(path: Path, origin: str, remedy: str) -> None:
    """Refuse what `Model.save` left where a run is needed.

    Raises:
        InputError: it is one; naming what to do instead.
    """
    if is_saved_model(path):
        raise InputError(f"{origin} {path}: a saved model, which is no run; {remedy}")


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        InputError: missing or not JSON.
    """
    try:
        _files.require_regular(path)
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


def names_of(paths: Sequence[Path]) -> list[str]:
    """What each run is called: its folder, with what stands above it where two are called alike.

    Raises:
        InputError: one is given twice.
    """
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise InputError(f"RUN {path} is given twice")
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return ["-".join(path.parts[-depth:]).strip("/") for path in resolved]
