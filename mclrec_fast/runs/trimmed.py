"""Finished runs made small enough to publish: figures and ranks, without weights and user ids.

A trimmed run is a run directory that tables, paired tests and pictures read as they read any other.
Ranks are packed, paths are cut down to names, and the notes of the data card, which may quote
ids, are left out.
"""

import io
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _files
from ..data.ids import read_arrays
from ..errors import InputError
from .directory import (
    BEST,
    CONFIG,
    DATA,
    ENVIRONMENT,
    METRICS,
    RESULT,
    json_bytes,
    read_json,
    refuse_saved_model,
    require_run,
    writing,
)

_PACKED = ("user_steps", "unmasked", "seen_ahead")
_RANKS = ("valid_ranks.npz", "test_ranks.npz")
_WIDTHS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
_FOLDERS = re.compile(r"(?<![\w:/.~-])~?/(?:[^\s/:'\"]+/)+")  # of an absolute path inside a text

Arrays = Mapping[str, NDArray[Any]]


class Trimmed(NamedTuple):
    """What was made of a run: where it lies, how many bytes it has, whether it was there before."""

    path: Path
    size: int
    before: bool


def is_trimmed(path: Path) -> bool:
    """Whether a run is finished and its weights were left out."""
    return (path / RESULT).exists() and not (path / BEST).exists()


def trim(runs: Sequence[Path], out: Path) -> list[Trimmed]:
    """Writes each of some finished runs, trimmed, into a directory of its name.

    Args:
        runs: their directories; trimmed ones may be among them.
        out: where to; made if need be. What is there already stays.

    Raises:
        InputError: no run, one that is not finished or is damaged, two of one name, or another run
            in its place; nothing was written.
        RunError: the disk is full or refuses.
    """
    files: dict[str, dict[str, bytes]] = {}
    for path in runs:
        name = path.resolve().name
        if name in files:
            raise InputError(f"RUN {path}: another one is called {name}, too: rename the directory")
        files[name] = _trimmed_files(path)
    there = {name: _is_there(out / name, of) for name, of in files.items()}
    for name, of in files.items():
        if not there[name]:
            _write(out / name, of)
    return [
        Trimmed(out / name, sum(map(len, of.values())), there[name]) for name, of in files.items()
    ]


def _trimmed_files(path: Path) -> dict[str, bytes]:
    """What a trimmed run holds, by file name.

    Raises:
        InputError: see `trim`.
    """
    require_run(path, "RUN")
    refuse_saved_model(path, "RUN", "its files are as small as they can be")
    if not (path / RESULT).exists():
        raise InputError(
            f"RUN {path}: not finished; go on with it first: mclrec-fast train --resume {path}"
        )
    files = {}
    for name in (CONFIG, DATA, ENVIRONMENT, RESULT):
        if (path / name).exists() or name != ENVIRONMENT:
            files[name] = json_bytes(_without_paths(read_json(path / name)))
    if (path / METRICS).exists():
        files[METRICS] = (path / METRICS).read_bytes()
    for file in (path / name for name in _RANKS):
        try:
            if file.exists():
                files[file.name] = _npz(pack_ranks(read_arrays(file)))
        except Exception as error:  # a damaged archive raises errors of many kinds
            raise InputError(f"RUN {file}: damaged: {type(error).__name__}: {error}") from None
    return files


def _is_there(path: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a directory holds these very files.

    Raises:
        InputError: it holds something else.
    """
    if not path.exists():
        return False
    held = {file.name: file for file in path.iterdir()} if path.is_dir() else {}
    if held.keys() == files.keys() and all(
        held[name].read_bytes() == content for name, content in files.items()
    ):
        return True
    raise InputError(
        f"--out: {path} is there and is not this run, trimmed: move it, or give another --out"
    )


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    """A directory with these files, which is there whole or not at all."""
    with writing(path):
        _files.make_directory(path.parent)
        aside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}{_files.SUFFIX}")
        aside.mkdir()
        try:
            for name, content in files.items():
                _files.write_atomically(aside / name, content)
            aside.rename(path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _files.sync_directory(path.parent)


def pack_ranks(kept: Arrays) -> dict[str, NDArray[Any]]:
    """The ranks of a run in few bytes: see `unpack_ranks`; those that are packed stay so."""
    if _PACKED[0] in kept:
        return {name: kept[name] for name in _PACKED}
    user, unmasked, masked = (kept[n].astype(np.int64) for n in ("user", "unmasked", "masked"))
    packed = (np.diff(user, prepend=0), unmasked, unmasked - masked)
    return {name: _narrow(values) for name, values in zip(_PACKED, packed, strict=True)}


def unpack_ranks(kept: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays `user` (int32), `unmasked` and `masked` (int64) of a file of ranks, each [M].

    Args:
        kept: these arrays already, or packed: `user_steps`, the differences of `user`; `unmasked`;
            `seen_ahead`, how many items of the user's history stand before the target, which is
            `unmasked - masked`.

    Raises:
        KeyError: there is an array missing.
    """
    if _PACKED[0] not in kept:
        return {name: kept[name] for name in ("user", "unmasked", "masked")}
    steps, unmasked, ahead = (kept[name].astype(np.int64) for name in _PACKED)
    user = np.cumsum(steps).astype(np.int32)
    return {"user": user, "unmasked": unmasked, "masked": unmasked - ahead}


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    """The same integers in the narrowest type that holds them."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for width in _WIDTHS:
        if np.iinfo(width).min <= low and high <= np.iinfo(width).max:
            return values.astype(width)
    return values


def _npz(arrays: Arrays) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _without_paths(value: Any, name: str = "") -> Any:
    """A tree of JSON in which files are called by their names alone, and without notes."""
    if isinstance(value, dict):
        return {key: _without_paths(of, key) for key, of in value.items() if key != "notes"}
    if isinstance(value, list):
        return [_without_paths(of, name) for of in value]
    if not isinstance(value, str):
        return value
    if name in ("data", "more", "item_embeddings", "item_ids", "source") or value.startswith("/"):
        return Path(value).name
    return _FOLDERS.sub("", value)
