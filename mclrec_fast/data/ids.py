"""External ids: looking them up, and keeping them in a run directory.

External ids are labels, integers or text; internal ids are positions. The files are plain npz
arrays (integers, or UTF-8 bytes with offsets), never pickles, and loading never unpickles.
"""

import io
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .._files import write_atomically
from ..errors import InputError
from .fields import is_canonical

ITEMS_FILE = "item_ids.npz"
USERS_FILE = "user_ids.npz"


class HasIds(Protocol):
    """What `save_ids` needs of a log."""

    @property
    def user_ids(self) -> NDArray[Any]:
        """External user ids [U]."""

    @property
    def item_ids(self) -> NDArray[Any]:
        """External item ids [n_items + 1]."""


class RunIds(NamedTuple):
    """The ids of a run: item_ids [n_items + 1] (entry 0 unused), user_ids [U] or None."""

    item_ids: NDArray[Any]
    user_ids: NDArray[Any] | None


class IdIndex:
    """External id -> position, for an array of distinct external ids.

    Both kinds of ids may be asked for as integers or as text (7 and "7" are one id).
    """

    def __init__(self, ids: NDArray[Any], *, first: int, missing: int) -> None:
        """Index `ids[first:]`; `missing` is the answer for an unknown id."""
        self._missing = missing
        self._integers = ids.dtype != object
        self._position = {value: first + i for i, value in enumerate(ids[first:].tolist())}

    def find(self, external: Iterable[Any]) -> NDArray[np.int32]:
        """The positions of external ids, int32 [n]; `missing` where unknown."""
        keys = [self._key(value) for value in external]
        return np.array([self._position.get(key, self._missing) for key in keys], dtype=np.int32)

    def _key(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool):
            return None
        if self._integers and isinstance(value, str):
            token = value.encode("utf-8", "replace")
            return int(token) if is_canonical(token) else None
        if not self._integers and isinstance(value, int):
            return str(value)
        return None if isinstance(value, float) else value


def _pack(ids: NDArray[Any]) -> dict[str, NDArray[Any]]:
    if ids.dtype != object:
        return {"integers": ids.astype("<i8", copy=False)}
    texts = [value.encode("utf-8") for value in ids.tolist()]
    ends = np.cumsum([0, *map(len, texts)], dtype="<i8")
    return {"text": np.frombuffer(b"".join(texts), dtype=np.uint8), "offsets": ends}


def _unpack(path: Path) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "integers" in arrays:
                integers = arrays["integers"]
                if integers.ndim != 1 or integers.dtype != np.dtype("<i8"):
                    raise ValueError("unexpected array")
                return np.asarray(integers, dtype=np.int64)
            text, ends = arrays["text"].tobytes(), arrays["offsets"].tolist()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a run directory?") from None
    except (OSError, ValueError, KeyError, EOFError, _bad_zip()) as error:
        raise InputError(f"{path}: not a file of ids ({error})") from None
    try:
        values = [text[a:b].decode("utf-8") for a, b in pairwise(ends)]
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a file of ids (text is not UTF-8)") from None
    return as_objects(values)


def _bad_zip() -> type[Exception]:
    from zipfile import BadZipFile

    return BadZipFile


def as_objects(values: list[str]) -> NDArray[Any]:
    """Texts as a one-dimensional object array (never a fixed-width one)."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _write(path: Path, ids: NDArray[Any]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **_pack(ids))
    write_atomically(path, content.getvalue())


def save_ids(log: HasIds, directory: Path | str, keep_user_ids: bool = True) -> None:
    """Write the id maps of a log into a run directory, each file atomically.

    Args:
        log: the log whose internal ids the run uses.
        directory: an existing folder.
        keep_user_ids: False keeps the users' ids out of the directory.
    """
    folder = Path(directory)
    _write(folder / ITEMS_FILE, log.item_ids)
    if keep_user_ids:
        _write(folder / USERS_FILE, log.user_ids)


def load_ids(directory: Path | str) -> RunIds:
    """Read what `save_ids` wrote; `user_ids` is None where they were not kept.

    Raises:
        InputError: the item ids are missing or a file is not what it should be.
    """
    folder = Path(directory)
    users = folder / USERS_FILE
    return RunIds(_unpack(folder / ITEMS_FILE), _unpack(users) if users.exists() else None)
