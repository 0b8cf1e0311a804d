"""A prepared log: a folder with a log, its split and its card, mapped instead of read.

Plain little-endian numbers, one file an array, described by `prepared.json` (docs/prepared.md has
the format). What is mapped costs no memory of its own, is shared by all processes that map it, and
is read from the disk where it is touched. Making one is prepare.py's.
"""

import hashlib
import json
import mmap
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from .._files import require_regular
from ..config import DataConfig
from ..errors import InputError
from .card import DataCard
from .ids import unpack_ids
from .log import InteractionLog
from .samples import Samples, Split

HEADER = "prepared.json"
FORMAT = "mclrec-fast prepared log"
VERSION = 1
NOT_OPTIONS = frozenset(
    (
        "data", "more", "dataset", "reader", "user_ids",
        "synthetic_users", "synthetic_items", "synthetic_seed",
    )
)  # fmt: skip
"""Fields of `DataConfig` that say nothing about how a prepared log was read."""
CHECKED_BYTES = 16 << 20
"""Smaller files are compared with their checksums whenever they are opened."""
_TYPES = ("int32", "int64", "float32", "float64", "uint8")
_AGAIN = "copy the folder again, or prepare it again"


class ArrayFile:
    """An array that is written bit by bit, with its checksum."""

    def __init__(self, folder: Path, name: str, type: Any) -> None:
        """A new file in a folder."""
        self.name, self._type = name, np.dtype(type)
        self._file: BinaryIO = (folder / f"{name}.bin").open("xb")
        self._digest = hashlib.sha256()
        self._length = 0

    def append(self, array: NDArray[Any]) -> None:
        """Writes behind what is there."""
        held = np.ascontiguousarray(array, self._type.newbyteorder("<"))
        view = held.view(np.uint8).data
        self._file.write(view)
        self._digest.update(view)
        self._length += len(held)

    def close(self) -> dict[str, Any]:
        """Puts it on disk; what the header says about it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {
            "type": self._type.name,
            "length": self._length,
            "sha256": self._digest.hexdigest(),
        }


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    """Writes what a folder holds, last and whole."""
    made = {"format": FORMAT, "version": VERSION, "by": f"mclrec_fast {__version__}", **header}
    with (folder / HEADER).open("xb") as file:
        file.write(json.dumps({**made, "sha256": _digest_of(made)}, indent=1).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _digest_of(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def is_prepared(path: str | os.PathLike[str] | None) -> bool:
    """Whether a path is a prepared log rather than a file or a folder of parts."""
    try:
        return path is not None and path != "-" and (Path(path) / HEADER).is_file()
    except (OSError, ValueError):  # said where it is opened
        return False


def read_header(folder: Path) -> dict[str, Any]:
    """The header of a prepared log.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = folder / HEADER
    try:
        require_regular(path)
        header = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({str(error)[:80]}): {_AGAIN}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{path}: not the description of a prepared log ({FORMAT!r})")
    if header.get("version") != VERSION:
        raise InputError(
            f"{path}: a prepared log of version {header.get('version')!r}, made by "
            f"{header.get('by')}; {__version__} reads version {VERSION}: prepare the log again"
        )
    if header.pop("sha256", None) != _digest_of(header):
        raise InputError(f"{path}: damaged (it is not what its own checksum says): {_AGAIN}")
    return header


def options_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """How a prepared log was read: the fields of `DataConfig` that belong to it.

    Raises:
        InputError: it is damaged, or of another version.
    """
    options: dict[str, Any] = read_header(Path(folder))["options"]
    return options


def config_of(config: DataConfig, options: Mapping[str, Any], given: frozenset[str]) -> DataConfig:
    """A configuration whose `data` is a prepared log, with what that was made with.

    Args:
        config: what it says of the log must be so, or be the default.
        options: those of the prepared log.
        given: fields that count; others are as the log has them.

    Raises:
        InputError: it was made otherwise.
    """
    if config.more:
        raise InputError(
            f"{config.data}: a prepared log is whole; --more is for prepare: prepare FILE MORE"
        )
    default = DataConfig()
    for name in sorted(given & options.keys()):
        value = getattr(config, name)
        if value != getattr(default, name):
            require_option(config.data, name, value, options[name])
    return replace(config, **options)


def require_option(folder: str | None, name: str, value: Any, made_with: Any) -> None:
    """Refuses an option that a prepared log was not made with.

    Raises:
        InputError: it is another.
    """
    if value != made_with:
        raise InputError(
            f"{folder}: prepared with {name} = {made_with!r}, not {value!r}: leave it out, or "
            "prepare the log again"
        )


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a prepared log holds.

    Attributes:
        log: its interactions, mapped.
        split: its samples, mapped.
        card: as it was made.
        counts: see `samples.training_counts`.
    """

    log: InteractionLog
    split: Split
    card: DataCard
    counts: NDArray[np.float32]


class _Arrays:
    """The files of a prepared log, by the name of the array."""

    def __init__(self, folder: Path, described: Mapping[str, Any]) -> None:
        self._folder, self._described = folder, described

    def get(self, name: str, type: str, length: int | None = None) -> NDArray[Any]:
        """One of them, mapped: private to who writes to it, shared with all others.

        Raises:
            InputError: it is missing or damaged.
        """
        path, entry = self._folder / f"{name}.bin", self._described[name]
        size = entry["length"] * np.dtype(type).itemsize
        if entry["type"] != type or (length is not None and entry["length"] != length):
            raise InputError(f"{path}: {entry['length']} {entry['type']}, expected {length} {type}")
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise InputError(f"{path}: damaged ({found} bytes, expected {size}): {_AGAIN}")
                array = _map(file, type) if size else np.empty(0, type)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}: {_AGAIN}") from None
        if size <= CHECKED_BYTES:
            _compare(path, array, entry["sha256"])
        return array

    def has(self, name: str) -> bool:
        """Whether there is such an array."""
        return name in self._described

    def type(self, name: str) -> str:
        """Its type."""
        kind: str = self._described[name]["type"]
        return kind

    def ids(self, name: str) -> NDArray[Any]:
        """External ids."""
        packed = {
            part: self.get(f"{name}_{part}", type)
            for part, type in (("integers", "int64"), ("text", "uint8"), ("offsets", "int64"))
            if self.has(f"{name}_{part}")
        }
        try:
            return unpack_ids(packed)
        except ValueError as error:
            raise InputError(f"{self._folder / name}_*.bin: damaged ({error}): {_AGAIN}") from None

    def samples(self, name: str) -> Samples | None:
        """The samples of one purpose, None where there are none."""
        if not self.has(f"{name}_users"):
            return None
        users = self.get(f"{name}_users", "int32")
        return Samples(users, self.get(f"{name}_ends", "int32", len(users)))

    def compare(self) -> None:
        """Compares every file with its checksum.

        Raises:
            InputError: one is damaged.
        """
        for name, entry in self._described.items():
            array = self.get(name, entry["type"])
            if array.nbytes > CHECKED_BYTES:
                _compare(self._folder / f"{name}.bin", array, entry["sha256"])


_USUAL = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
_NO_RESERVE = getattr(
    mmap, "MAP_NORESERVE", 0x4000 if _USUAL else 0
)  # Python has it in later versions


def _map(file: BinaryIO, type: str) -> NDArray[Any]:
    if hasattr(mmap, "MAP_PRIVATE"):  # not counted as memory that is promised: it is never written
        flags = mmap.MAP_PRIVATE | _NO_RESERVE
        held = mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ | mmap.PROT_WRITE)
    else:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return np.frombuffer(held, type)


def _compare(path: Path, array: NDArray[Any], sha256: str) -> None:
    if hashlib.sha256(array.data).hexdigest() != sha256:
        raise InputError(f"{path}: damaged (not what its checksum says): {_AGAIN}")


def open_prepared(folder: str | os.PathLike[str], *, compare: bool = False) -> Prepared:
    """Map a prepared log.

    Checked are the header, the sizes of all files, the checksums of those up to `CHECKED_BYTES`,
    and that the users divide the rows.

    Args:
        folder: where it lies.
        compare: compare all checksums, which reads every file.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = Path(folder)
    header = read_header(path)
    try:
        arrays = _Arrays(path, header["arrays"])
        if compare:
            arrays.compare()
        items = arrays.get("items", "int32")
        offsets = arrays.get("offsets", "int64")
        times = (
            arrays.get("times", arrays.type("times"), len(items)) if arrays.has("times") else None
        )
        log = InteractionLog(
            items,
            offsets,
            times,
            arrays.ids("user_ids"),
            arrays.ids("item_ids"),
            header["log"]["sha256"],
            str(folder),
        )
        if offsets[0] != 0 or offsets[-1] != len(items) or log.n_users != len(log.user_ids):
            raise InputError(f"{path}: damaged (its users do not divide its rows): {_AGAIN}")
        train = arrays.samples("train")
        assert train is not None
        split = Split(train, arrays.samples("valid"), arrays.samples("test"), **header["split"])
        card = {**header["card"], "source": str(folder), "notes": tuple(header["card"]["notes"])}
        counts = arrays.get("counts", "float32", log.n_classes)
        return Prepared(log, split, DataCard(**card), counts)
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise InputError(f"{path / HEADER}: damaged ({error!r}): {_AGAIN}") from None
