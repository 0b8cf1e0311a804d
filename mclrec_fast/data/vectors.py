"""Item vectors from outside: npy, npz, safetensors, parquet and word2vec's text, by item id.

Reads and checks them; which rows of a model they go into is training/vectors.py's. Nothing is
unpickled. safetensors and pyarrow are imported when a file needs them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._files import require_regular
from ..errors import InputError
from .ids import external_id

_IDS = ("item_ids", "ids", "item_id", "id", "items", "item")
_VECTORS = ("vectors", "embeddings", "item_embeddings", "vector", "embedding")
FORMATS = ".npy with item ids, .npz, .safetensors, .parquet, or word2vec's text"


class Vectors(NamedTuple):
    """Vectors by item id.

    Attributes:
        ids: external ids [N], distinct.
        table: float32 [N, W].
        source: where they come from, for people.
    """

    ids: list[int | str]
    table: NDArray[np.float32]
    source: str

    @property
    def sha256(self) -> str:
        """Of the ids and the vectors, whatever file they came in."""
        found = hashlib.sha256(json.dumps([*map(str, self.ids), self.table.shape]).encode())
        found.update(self.table.astype("<f4", copy=False).tobytes())
        return found.hexdigest()


def vectors_of(given: Any) -> Vectors:
    """Vectors in memory: a mapping from ids, or a pair of ids and a table.

    Raises:
        TypeError: something else.
        InputError: see `read_vectors`.
    """
    if isinstance(given, Mapping):
        return _checked(list(given), list(given.values()), "item_embeddings")
    if isinstance(given, tuple | list) and len(given) == 2:
        return _checked(given[0], given[1], "item_embeddings")
    raise TypeError(
        f"item_embeddings is a {type(given).__name__}, expected a file, a dict of vectors by item "
        "id, or a pair (ids, vectors)"
    )


def read_vectors(path: str, ids_path: str | None = None) -> Vectors:
    """The vectors in a file.

    Args:
        path: npz with two arrays, safetensors with a tensor and ids (a tensor, or a JSON list in
            its metadata), parquet with a column of ids and one of lists, word2vec's text; or npy,
            a row an item.
        ids_path: the items of npy's rows: a text file with an id on each line, npy, or JSON as an
            export leaves it beside its npy.

    Raises:
        InputError: the file is missing, damaged or none of these; ids are missing, there twice or
            no ids; a number is not finite; an id file for a file that has ids.
    """
    file = Path(path)
    try:
        require_regular(file)
        kind = _kind_of(file)
        if (kind == "npy") != (ids_path is not None):
            raise InputError(
                f"{path}: rows without ids: name their items with --item-ids FILE, or write an "
                ".npz with the arrays ids and vectors"
                if kind == "npy"
                else f"--item-ids {ids_path}: {path} has ids of its own; leave it out"
            )
        if kind == "npy":
            assert ids_path is not None
            return _checked(_read_ids(Path(ids_path)), _npy(file), path)
        return _checked(*_READERS[kind](file), path)
    except InputError as error:
        raise InputError(str(error) if path in str(error) else f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from None
    except Exception as error:  # damaged files raise errors of many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable file of vectors ({reason})") from None


def _kind_of(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(6)
    for magic, kind in ((b"\x93NUMPY", "npy"), (b"PK\x03\x04", "npz"), (b"PAR1", "parquet")):
        if head.startswith(magic):
            return kind
    return "safetensors" if file.suffix == ".safetensors" else "text"


def _npy(file: Path) -> NDArray[Any]:
    with file.open("rb") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _read_ids(file: Path) -> Iterable[Any]:
    require_regular(file)
    if _kind_of(file) == "npy":
        listed: list[Any] = _npy(file).tolist()
        return listed
    if file.suffix == ".json":
        found = json.loads(file.read_text(encoding="utf-8"))
        named: list[Any] = found["item_ids"] if isinstance(found, Mapping) else found
        return named
    return _from_texts(file.read_text(encoding="utf-8").splitlines())


def _from_texts(texts: Iterable[str]) -> list[str]:
    return [text.strip() for text in texts]


def _npz(file: Path) -> tuple[Any, Any]:
    with np.load(file, allow_pickle=False) as archive:
        ids, table = _named(archive.files, "array")
        return archive[ids].tolist(), archive[table]


def _safetensors(file: Path) -> tuple[Any, Any]:
    from safetensors import safe_open

    with safe_open(file, framework="np") as archive:
        metadata = archive.metadata() or {}
        names = list(archive.keys())
        listed = next((metadata[name] for name in _IDS if name in metadata), None)
        if listed is not None:
            (_, table) = _named([*names, "ids"], "tensor")
            return json.loads(listed), archive.get_tensor(table)
        ids, table = _named(names, "tensor")
        return archive.get_tensor(ids).tolist(), archive.get_tensor(table)


def _parquet(file: Path) -> tuple[Any, Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError(
            'parquet needs pyarrow: pip install pyarrow (or "mclrec_fast[parquet]")'
        ) from None
    columns = parquet.read_table(file)
    lists = [field.name for field in columns.schema if "list" in str(field.type)]
    others = [name for name in columns.column_names if name not in lists]
    table = lists[0] if len(lists) == 1 else _named([*lists, "ids"], "column of lists")[1]
    ids = others[0] if len(others) == 1 else _named([*others, "vectors"], "column")[0]
    return columns.column(ids).to_pylist(), columns.column(table).to_pylist()


def _named(names: list[str], what: str) -> tuple[str, str]:
    """Which of some names are the ids and the vectors.

    Raises:
        InputError: there is no telling.
    """
    ids = [name for name in _IDS if name in names]
    rest = [name for name in names if name not in ids]
    tables = [name for name in _VECTORS if name in rest] or rest
    if not ids or len(tables) != 1:
        raise InputError(
            f"it has the {what}s {', '.join(names) or '(none)'}; expected one of ids (called "
            f"{', '.join(_IDS[:2])}) and one of vectors (called {', '.join(_VECTORS[:2])})"
        )
    return ids[0], tables[0]


def _text(file: Path) -> tuple[Any, Any]:
    """word2vec's text: `id number number ...` a line, perhaps under a line `rows width`."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"none of the formats that are read: {FORMATS}") from None
    first = lines[0].split() if lines else []
    header = len(first) == 2 and all(word.isdecimal() for word in first)
    width = int(first[1]) if header else len(first) - 1
    if width < 1:
        raise InputError(f"line 1: {lines[0][:80] if lines else ''!r}, expected an id and numbers")
    ids, rows = [], []
    for number, line in enumerate(lines[int(header) :], 1 + int(header)):
        words = line.rstrip().rsplit(" ", width)
        try:
            rows.append(np.array(words[1:], dtype=np.float32))
        except ValueError:
            words = []
        if len(words) != width + 1 or not words[0]:
            raise InputError(f"line {number}: {line[:80]!r}, expected an id and {width} numbers")
        ids.append(words[0])
    if header and len(ids) != int(first[0]):
        raise InputError(f"its first line says {first[0]} rows, but there are {len(ids)}")
    return ids, rows


_READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "npz": _npz,
    "safetensors": _safetensors,
    "parquet": _parquet,
    "text": _text,
}


def _checked(ids: Iterable[Any], table: Any, source: str | os.PathLike[str]) -> Vectors:
    """Ids and vectors of the kinds they should be, as many of one as of the other."""
    source = os.fspath(source)
    try:
        numbers = np.ascontiguousarray(table, dtype=np.float32)
    except (ValueError, TypeError):
        raise InputError(
            f"{source}: its vectors are not all of one length, or no numbers"
        ) from None
    listed = [external_id(value, place) for place, value in enumerate(ids)]
    if numbers.ndim != 2 or not numbers.size:
        raise InputError(
            f"{source}: vectors of shape {numbers.shape}, expected a row an item: [items, width]"
        )
    if len(listed) != len(numbers):
        raise InputError(f"{source}: {len(numbers)} vectors, but {len(listed)} ids")
    places: dict[int | str, int] = {}
    for place, value in enumerate(listed):
        if places.setdefault(value, place) != place:
            raise InputError(
                f"{source}: item {value!r} is there twice (rows {places[value]} and {place})"
            )
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(bad):
        raise InputError(
            f"{source}: the vector of item {listed[bad[0]]!r} (row {bad[0]}) is not finite, and "
            f"{len(bad) - 1} more are not"
        )
    return Vectors(listed, numbers, source)
