"""From a path to rows: one file, a stream, or a folder of parts, in any of the formats.

What the rows mean is not known here; dataset.py filters, groups and splits them.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import reader
from .columns import ColumnNames
from .formats import detect_format
from .frame import read_parquet
from .layout import find_layout
from .source import STDIN, SUFFIXES, Source
from .spool import Spool
from .table import Table, concatenate


@dataclass
class Rows:
    """What was read, and how.

    Attributes:
        table: the rows.
        format: what the file was taken for.
        reader: "native", "numpy" or "none".
        columns: which column plays which part.
        in_words: times are ISO 8601 or of a date type, so that they are nanoseconds.
        sha256: of the file; for a folder, of its parts' names and digests.
        name: a short name, fit for a folder.
        notes: what to know about how it was read.
        warnings: what may be wrong about how it was read.
    """

    table: Table
    format: str
    reader: str
    columns: dict[str, str]
    in_words: bool = False
    sha256: str = ""
    name: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """How a file is to be read; the fields are those of `DataConfig`.

    Attributes:
        spool: where the columns of a text file go, if not into memory.
    """

    format: str
    columns: ColumnNames
    need_rating: bool
    reader: str
    threads: int
    spool: Spool | None = None


def _read_file(source: Source, request: Request, empty_is_fine: bool = False) -> Rows:
    format = request.format
    if format == "auto":
        format = detect_format(source, request.columns)
    if format == "parquet":
        return _read_parquet(source, request, empty_is_fine)
    layout = find_layout(source, format, request.columns, request.need_rating)
    chosen, read = reader.choose(request.reader), reader.read_table
    if source.plain and chosen == "native":
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(source.digest)
            table = read(source, layout, chosen, request.threads, empty_is_fine, request.spool)
            sha256 = digest.result()
    else:
        table = read(source, layout, chosen, request.threads, empty_is_fine, request.spool)
        sha256 = source.digest()
    return Rows(
        table,
        format,
        chosen,
        layout.used(),
        layout.time_is_iso,
        sha256,
        notes=list(layout.notes),
        warnings=list(layout.warnings),
    )


def _read_parquet(source: Source, request: Request, empty_is_fine: bool) -> Rows:
    if not source.plain or source.path is None:
        raise InputError(
            f"{source.name}: parquet is read from a plain file only; write it to disk, unpacked"
        )
    hard = request.columns.hard()
    if hard.names is not None or hard.header != "auto":
        raise InputError(f"{source.name}: --columns and --header are for text files, not parquet")
    rows = read_parquet(source.path, request.columns, request.need_rating, empty_is_fine)
    return Rows(
        rows.table,
        "parquet",
        "none",
        rows.used,
        rows.in_words,
        source.digest(),
        notes=rows.notes,
        warnings=rows.warnings,
    )


def _parts(folder: Path) -> list[Path]:
    """The files of a folder and its folders in the order of their names, markers left out.

    Raises:
        InputError: there are none, or they are of several kinds.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and path.stat().st_size:
            found.append(path)
    if not found:
        raise InputError(f"{folder}: a folder without files, expected the parts of a log")
    kinds = {_kind(path): path for path in reversed(found)}
    if len(kinds) > 1:
        first, second, *_ = sorted(str(path) for path in kinds.values())
        raise InputError(
            f"{folder}: a folder of different kinds of files ({first}, {second}); the parts of a "
            "log are of one kind: name one file, or move the others away"
        )
    return found


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() + suffix if suffix in SUFFIXES else suffix


def _read_folder(folder: Path, request: Request) -> Rows:
    try:
        parts = _parts(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    read: dict[Path, Rows] = {}
    digest = hashlib.sha256()
    for number, path in enumerate(parts):
        own = None if request.spool is None else request.spool.part(number)
        rows = _read_file(Source(path), replace(request, spool=own), empty_is_fine=True)
        digest.update(f"{path.relative_to(folder)}\0{rows.sha256}\n".encode(errors="replace"))
        if rows.format == "text":
            raise InputError(
                f"{path}: one line per user, which a folder of parts cannot hold; name one file"
            )
        if not len(rows.table.users):
            continue  # of what its columns would hold, nothing is known
        if own is not None and not isinstance(rows.table.users, np.memmap):
            rows.table = own.joined([rows.table])
        for first, others in read.items():
            _require_alike(path, rows, first, others, request.columns)
            break
        read[path] = rows
    if not read:
        raise InputError(f"{folder}: no rows in {len(parts)} files, expected interactions")
    whole = next(iter(read.values()))
    join = concatenate if request.spool is None else request.spool.joined
    whole.table = join([rows.table for rows in read.values()])
    whole.sha256 = digest.hexdigest()
    whole.notes.append(f"{len(parts)} files, read in the order of their names")
    return whole


def _require_alike(path: Path, rows: Rows, other: Path, first: Rows, columns: ColumnNames) -> None:
    """Refuse a part that does not hold what the first does; counted columns may have any name."""
    chosen = {part for part in first.columns if getattr(columns, part) is not None}
    usual = [
        {part: name for part, name in of.columns.items() if part not in chosen}
        for of in (rows, first)
    ]
    if rows.columns.keys() == first.columns.keys() and usual[0] == usual[1]:
        if rows.in_words == first.in_words:
            return
        remedy = "write the times of all parts alike"
    else:
        remedy = "name them with --user-col, --item-col and --time-col"
    if "time" in {*rows.columns, *first.columns}:
        remedy += ", or keep the order of the files with --ignore-times"
    raise InputError(
        f"{path}: its columns are {_columns(rows)}, but those of {other} are {_columns(first)}; "
        f"{remedy}"
    )


def _columns(rows: Rows) -> str:
    listed = ", ".join(f"{part} = {name!r}" for part, name in rows.columns.items())
    return listed + (" (in words)" if rows.in_words else "")


def read_log(data: str, request: Request, opened: Source | None = None) -> Rows:
    """The rows of a file, a folder of parts, a named pipe or (`-`) standard input.

    Args:
        data: its path, or "-".
        request: how it is to be read.
        opened: the same, where it was looked at before and cannot be opened again.

    Raises:
        InputError: anything wrong with it, in place and words.
    """
    path = Path(data)
    try:
        is_folder = data != STDIN and path.is_dir()
    except (OSError, ValueError):  # said where it is opened
        is_folder = False
    if is_folder:
        rows = _read_folder(path, request)
        rows.name = path.resolve().name
        return rows
    source = opened or Source(data if data == STDIN else path)
    rows = _read_file(source, request)
    rows.name = Path(source.format_name).stem
    return rows
