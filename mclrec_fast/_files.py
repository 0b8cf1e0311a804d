"""Files that are whole or not there: written aside and renamed, read only where they are files.

A reader, or a process killed at any moment, meets the old or the new one. Errors stay `OSError`;
what they mean to a user is the caller's to say.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".tmp"
"""Ending of the files that are being written."""


def write_atomically(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replaces `path` by `content`, all or nothing, and on disk before it returns.

    Args:
        path: the file.
        content: all of it.
        private: only its owner may read it.

    Raises:
        OSError: the disk is full or refuses; the old file, if any, is untouched.
    """
    with writing_atomically(path, private=private) as file:
        file.write(content)


@contextlib.contextmanager
def writing_atomically(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when this is left, unless by an error.

    Raises:
        OSError: the disk is full or refuses; the old file, if any, is untouched.
    """
    descriptor, temporary = _create_beside(path, 0o600 if private else 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def _create_beside(path: Path, mode: int) -> tuple[int, Path]:
    """A new file nobody could have waited for: its name is drawn, and no link is followed."""
    name = f".{path.name[:200]}.{secrets.token_hex(6)}{SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    temporary = path.with_name(name)
    return os.open(temporary, flags, mode), temporary


def remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of processes that were killed, and nothing else."""
    for leftover in folder.glob(f".*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(leftover.lstat().st_mode):
                leftover.unlink()


def require_regular(path: Path) -> None:
    """Refuses what is not a file: reading a pipe would wait for ever.

    Raises:
        OSError: there is nothing, or something else than a file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def make_directory(path: Path) -> None:
    """Makes a directory and its parents, each of them on disk before it returns.

    Raises:
        OSError: one cannot be made.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes a rename durable where the system can (a directory cannot be opened everywhere)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
