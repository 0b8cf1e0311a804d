"""External ids: looking them up, and keeping them in a run directory.

External ids are labels, integers or text; internal ids are positions. The files are plain npz
arrays (integers, or UTF-8 bytes with offsets), never pickles, and loading never unpickles.
"""

import hashlib
import io
import json
import os
import stat
import zipfile
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
CARD_FILE = "data.json"
_MOST_UNPACKED = 200  # times the size of the file; ids never pack so well
_SMALL = 1 << 26  # bytes that may be unpacked in any case


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
        """The positions of external ids, int32 [n]; `missing` where unknown.

        Raises:
            InputError: an id is neither an integer (of any kind) nor text; its place is named.
        """
        keys = [self._key(value, place) for place, value in enumerate(external)]
        return np.array([self._position.get(key, self._missing) for key in keys], dtype=np.int32)

    def _key(self, value: Any, place: int) -> Any:
        if type(value) is not str and type(value) is not int:
            value = external_id(value, place)
        if self._integers and isinstance(value, str):
            token = value.encode("utf-8", "replace")
            return int(token) if is_canonical(token) else None
        return str(value) if not self._integers and isinstance(value, int) else value


def external_id(value: Any, place: int = 0) -> int | str:
    """An id as the integer or text it stands for.

    Integral floats, numpy scalars and tensors of one element are the integer they hold.

    Raises:
        InputError: bytes, None, NaN, a truth value or another type; `place` says where it was.
    """
    found = value
    if not isinstance(found, str | int | float) and getattr(found, "ndim", None) == 0:
        found = found.item()
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, str):
        return str(found)
    if isinstance(found, int) and not isinstance(found, bool):
        return int(found)
    raise InputError(
        f"id {place}: {repr(value)[:80]} ({type(value).__name__}), expected an integer or text"
    )


def pack_ids(ids: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """External ids as plain arrays by name: integers, or UTF-8 text and its offsets."""
    if ids.dtype != object:
        return {"integers": ids.astype("<i8", copy=False)}
    texts = [value.encode("utf-8") for value in ids.tolist()]
    ends = np.cumsum([0, *map(len, texts)], dtype="<i8")
    return {"text": np.frombuffer(b"".join(texts), dtype=np.uint8), "offsets": ends}


def ids_digest(ids: NDArray[Any]) -> str:
    """SHA-256 of some ids and their order; it does not depend on the machine."""
    digest = hashlib.sha256()
    for name, array in pack_ids(ids).items():
        digest.update(f"{name} {len(array)};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read_regular(path: Path) -> bytes:
    """The content of a regular file; a pipe under its name is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("not a regular file")
    with open(descriptor, "rb") as file:
        return file.read()


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, each read to its end, so that its checksum is compared.

    Raises:
        ValueError: a member is not a plain one-dimensional array, or unpacks to far too much.
        Exception: of many other kinds, where the archive is damaged.
    """
    arrays = {}
    content = _read_regular(path)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.file_size > max(_MOST_UNPACKED * len(content), _SMALL):
                raise ValueError(f"{member.filename} would unpack to {member.file_size} bytes")
            stream = io.BytesIO(archive.read(member))
            array = np.lib.format.read_array(stream, allow_pickle=False)
            if array.ndim != 1 or stream.read(1):
                raise ValueError("unexpected array")
            arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _texts(text: NDArray[Any], ends: NDArray[Any]) -> list[str]:
    """The texts between offsets.

    Raises:
        ValueError: the offsets do not divide the text, or it is not UTF-8.
    """
    if text.dtype != np.uint8 or ends.dtype != np.dtype("<i8"):
        raise ValueError("unexpected array")
    if not len(ends) or ends[0] != 0 or ends[-1] != len(text) or (np.diff(ends) < 0).any():
        raise ValueError("its offsets do not divide its text")
    joined = text.tobytes()
    return [joined[a:b].decode("utf-8") for a, b in pairwise(ends.tolist())]


def unpack_ids(arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The ids that `pack_ids` packed.

    Raises:
        ValueError: they are something else.
    """
    if set(arrays) == {"integers"} and arrays["integers"].dtype == np.dtype("<i8"):
        return arrays["integers"].astype(np.int64, copy=False)
    if set(arrays) == {"text", "offsets"}:
        return as_objects(_texts(arrays["text"], arrays["offsets"]))
    raise ValueError("unexpected arrays")


def _unpack(path: Path, first: int, digest: str) -> NDArray[Any]:
    """The ids in a file: distinct from position `first` on, and with the digest if one is known."""
    try:
        ids = unpack_ids(read_arrays(path))
        some = ids[first:]
        distinct = len(set(some.tolist())) if some.dtype == object else len(np.unique(some))
        if len(ids) < first or distinct != len(ids) - first:
            raise ValueError("an id is there twice")
        if digest and ids_digest(ids[first:]) != digest:
            raise ValueError("they are not the ids that the run was made with")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a run directory?") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a file of ids (text is not UTF-8)") from None
    except MemoryError:
        raise InputError(f"{path}: not a file of ids (more than the memory holds)") from None
    except Exception as error:  # a damaged archive raises errors of many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: not a file of ids ({reason}); copy it again, or train again"
        ) from None
    return ids


def as_objects(values: list[str]) -> NDArray[Any]:
    """Texts as a one-dimensional object array (never a fixed-width one)."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _write(path: Path, ids: NDArray[Any], private: bool) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **pack_ids(ids))
    write_atomically(path, content.getvalue(), private=private)


def save_ids(log: HasIds, directory: Path | str, keep_user_ids: bool = True) -> None:
    """Write the id maps of a log into a run directory, each file atomically.

    The users' ids can be read by the owner alone.

    Args:
        log: the log whose internal ids the run uses.
        directory: an existing folder.
        keep_user_ids: False keeps the users' ids out of the directory.
    """
    folder = Path(directory)
    _write(folder / ITEMS_FILE, log.item_ids, private=False)
    if keep_user_ids:
        _write(folder / USERS_FILE, log.user_ids, private=True)


def _digests(folder: Path) -> dict[str, str]:
    """What the run's data card says about its ids; nothing where there is no card that does."""
    try:
        card = json.loads(_read_regular(folder / CARD_FILE))
        found = {name: card.get(name, "") for name in ("item_ids_sha256", "user_ids_sha256")}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def load_ids(directory: Path | str) -> RunIds:
    """Read what `save_ids` wrote; `user_ids` is None where they were not kept.

    Checked are the archive's checksums, that the ids are distinct, and, where the directory has a
    data card, that they are those of the card.

    Raises:
        InputError: the item ids are missing or a file is not what it should be.
    """
    folder = Path(directory)
    digests = _digests(folder)
    users = folder / USERS_FILE
    return RunIds(
        _unpack(folder / ITEMS_FILE, 1, digests.get("item_ids_sha256", "")),
        _unpack(users, 0, digests.get("user_ids_sha256", "")) if users.exists() else None,
    )
