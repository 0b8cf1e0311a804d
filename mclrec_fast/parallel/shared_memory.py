"""Memory that all processes of one machine see, for what they exchange in every batch.

A file in /dev/shm that nobody can name any more once all have mapped it. It spares the copies
through sockets; who may read what, and when, is group.py's, whose barriers go through gloo.
"""

import contextlib
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

_PLACE = "/dev/shm"


def make(size: int) -> str | None:
    """A file of so many bytes that are really there, for `see`; None where there is no room."""
    if not os.path.isdir(_PLACE) or not hasattr(os, "posix_fallocate"):
        return None
    name = None
    try:
        handle, name = tempfile.mkstemp(prefix="mclrec_fast-", dir=_PLACE)
        with os.fdopen(handle, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        if name is not None:
            forget(name)
        return None
    return name


def see(name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor | None:
    """The memory of a file as a tensor [rows, columns]; None where it cannot be mapped."""
    if not Path(name).exists():
        return None
    try:
        with torch.inference_mode(False):  # it is written to inside and outside that mode
            memory = torch.from_file(name, shared=True, size=rows * columns, dtype=dtype)
            return memory.view(rows, columns)
    except RuntimeError:
        return None


def forget(name: str) -> None:
    """Take the file's name away; the memory lives as long as somebody sees it."""
    with contextlib.suppress(OSError):
        os.unlink(name)
