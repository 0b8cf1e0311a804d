"""What verbs write for people (tables, pictures, figures): all or nothing, and said if refused."""

from pathlib import Path

from . import _files
from .errors import RunError


def write_file(path: Path, content: bytes) -> None:
    """Replaces a file.

    Raises:
        RunError: the disk is full or refuses; the old file, if any, is untouched.
    """
    try:
        _files.write_atomically(path, content)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; the runs are kept: give the same "
            "command again"
        ) from error
