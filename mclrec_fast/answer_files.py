"""Answers as files, written bit by bit: CSV, JSON lines or parquet, by the name's ending.

What is written appears whole, when all of it is there, or not at all. Standard output is CSV in
UTF-8.
"""

import contextlib
import io
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import _files
from .answers import Answers
from .data.ids import as_objects
from .errors import InputError, RunError

STDOUT = "-"
_ROWS = 1 << 12
_COMPRESSED = (".gz", ".bz2", ".zst", ".xz", ".zip")


class Writer(ABC):
    """Takes answers in portions; see `writing`."""

    def __init__(self, file: BinaryIO, item_ids: NDArray[Any], label: str | None) -> None:
        """Write to an open file.

        Args:
            file: where to.
            item_ids: external item ids [V].
            label: what the column of users is called; None for one history of nobody.
        """
        self.file, self.item_ids, self.label = file, item_ids, label

    @abstractmethod
    def write(self, answers: Answers) -> None:
        """Add some answers."""

    def close(self) -> None:  # noqa: B027
        """Write what belongs to the end, if anything does."""


def _portions(answers: Answers) -> Iterator[tuple[Sequence[Any], NDArray[Any], NDArray[Any]]]:
    """Users, items and scores of some rows at a time."""
    count = len(answers.numbers)
    users = range(count) if answers.users is None else answers.users
    for first in range(0, count, _ROWS):
        part = slice(first, first + _ROWS)
        yield users[part], answers.numbers[part], answers.scores[part]


class _Csv(Writer):
    """`user,rank,item,score` lines, the user only where there is one."""

    def __init__(self, file: BinaryIO, item_ids: NDArray[Any], label: str | None) -> None:
        super().__init__(file, item_ids, label)
        self._words = as_objects([_quoted(item) for item in item_ids.tolist()])
        head = "rank,item,score\n"
        self.file.write((head if label is None else f"{label},{head}").encode())

    def write(self, answers: Answers) -> None:
        for users, numbers, scores in _portions(answers):
            there = numbers != 0  # [n, k]
            rows = int(np.count_nonzero(there))
            cells = np.empty((rows, 4), object)
            cells[:, 0] = np.repeat(
                as_objects([_quoted(user) for user in users]), np.count_nonzero(there, axis=1)
            )
            cells[:, 1] = np.nonzero(there)[1] + 1
            cells[:, 2] = self._words[numbers[there]]
            cells[:, 3] = scores[there].tolist()
            first = 1 if self.label is None else 0
            form = "%s,%s,%s,%.6g\n" if first == 0 else "%s,%s,%.6g\n"
            text = form * rows % tuple(cells[:, first:].ravel().tolist())
            self.file.write(text.encode())


class _JsonLines(Writer):
    """One line a user: {"user": ..., "items": [...], "scores": [...]}."""

    def __init__(self, file: BinaryIO, item_ids: NDArray[Any], label: str | None) -> None:
        super().__init__(file, item_ids, label)
        self._words = as_objects([_json(item) for item in item_ids.tolist()])

    def write(self, answers: Answers) -> None:
        for users, numbers, scores in _portions(answers):
            sizes = np.count_nonzero(numbers, axis=1).tolist()
            words, values = self._words[numbers].tolist(), scores.tolist()
            lines = []
            for user, size, items, own in zip(users, sizes, words, values, strict=True):
                who = "" if self.label is None else f"{_json(self.label)}: {_json(user)}, "
                some = ", ".join(items[:size])
                shown = ", ".join([f"{score:.6g}" for score in own[:size]])
                lines.append(f'{{{who}"items": [{some}], "scores": [{shown}]}}\n')
            self.file.write("".join(lines).encode())


class _Parquet(Writer):
    """Rows of the user, rank, item and score; a row group for each portion written."""

    def __init__(self, file: BinaryIO, item_ids: NDArray[Any], label: str | None) -> None:
        super().__init__(file, item_ids, label)
        import pyarrow

        self._arrow = pyarrow
        self._items = pyarrow.array(item_ids.tolist())
        self._writer: Any = None

    def write(self, answers: Answers) -> None:
        there = answers.numbers != 0
        columns: dict[str, Any] = {}
        if self.label is not None:
            columns[self.label] = self._users(answers).take(self._arrow.array(np.nonzero(there)[0]))
        columns["rank"] = self._arrow.array((np.nonzero(there)[1] + 1).astype(np.int32))
        columns["item"] = self._items.take(self._arrow.array(answers.numbers[there]))
        columns["score"] = self._arrow.array(answers.scores[there])
        self._put(self._arrow.table(columns))

    def _users(self, answers: Answers) -> Any:
        users = list(range(len(answers.numbers)) if answers.users is None else answers.users)
        kind = None if users else self._arrow.string()
        if self._writer is not None:
            kind = self._writer.schema.field(self.label).type
            if kind == self._arrow.string():
                users = [str(user) for user in users]
        try:
            return self._arrow.array(users, kind)
        except (self._arrow.ArrowInvalid, self._arrow.ArrowTypeError):
            raise RunError(
                "user ids are numbers at first and texts later, which one parquet column cannot "
                "hold: write .jsonl or .csv"
            ) from None

    def _put(self, table: Any) -> None:
        import pyarrow.parquet

        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self.file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is None:
            nothing = np.zeros((0, 1), np.int64)
            self.write(Answers(nothing, nothing.astype(np.float32), nothing[:, 0], []))
        self._writer.close()


def _kind(path: Path) -> type[Writer]:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _Parquet
    return _JsonLines if suffix in (".jsonl", ".ndjson") else _Csv


def check_out(path: Path | None) -> None:
    """Before anything is computed: the file is new, can be written, and has a place to lie in.

    Raises:
        InputError: one of these is not so.
    """
    if path is None or str(path) == STDOUT:
        return
    if path.suffix.lower() in _COMPRESSED:
        raise InputError(
            f"--out {path}: nothing is compressed here; write {path.stem}, or - | gzip"
        )
    if path.exists():
        raise InputError(f"--out {path} exists: name another file, or remove it first")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: no directory {path.parent}; make it first")
    if _kind(path) is _Parquet:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InputError(
                f"--out {path}: parquet needs pyarrow: pip install pyarrow (or "
                '"mclrec_fast[parquet]")'
            ) from None


@contextlib.contextmanager
def writing(path: Path | None, item_ids: NDArray[Any], label: str | None) -> Iterator[Writer]:
    """A writer of answers; the file takes its name when this is left, unless by an error.

    Args:
        path: by its ending .jsonl, .parquet or CSV; None or "-" for standard output.
        item_ids: external item ids [V].
        label: what the column of users is called; None for one history of nobody.

    Raises:
        RunError: the disk is full or refuses.
    """
    if path is None or str(path) == STDOUT:
        with _stdout() as file:
            yield _Csv(file, item_ids, label)
        return
    try:
        with _files.writing_atomically(path) as file:
            writer = _kind(path)(file, item_ids, label)
            yield writer
            writer.close()
    except OSError as error:
        raise RunError(f"--out {path}: {error.strerror or error}") from error


class _Terminal(io.RawIOBase):
    """UTF-8 for a stream of text in its own encoding, what that lacks written as an escape."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._encoding = stream, stream.encoding or "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        text = bytes(content).decode()
        self._stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        return len(content)


@contextlib.contextmanager
def _stdout() -> Iterator[BinaryIO]:
    """To a terminal in its encoding; else in UTF-8, whatever the console's encoding is."""
    binary = getattr(sys.stdout, "buffer", None)
    sys.stdout.flush()
    if binary is None or sys.stdout.isatty():
        yield _Terminal(sys.stdout)  # type: ignore[misc]
    else:
        yield binary
    sys.stdout.flush()


def _quoted(value: Any) -> str:
    """A field of a CSV file."""
    text = str(value)
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
