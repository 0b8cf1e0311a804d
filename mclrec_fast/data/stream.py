"""A log of any number of users, some of them at a time, in bounded memory.

For answering, not for training: the pieces share no numbering of items, and no census is taken. One
history a line (text, JSONL) or a row (parquet lists) always streams. Rows of single interactions do
where those of a user stand together, which a first reading of the file finds out.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import DataConfig
from ..errors import InputError
from . import reader
from .build import apply_filters, build_log
from .columns import USER_NAMES, ColumnNames, find_column, match_any
from .dataset import filters_of, refuse_idle_options, request_of
from .fields import is_canonical
from .formats import detect_format
from .frame import code_ids, frame_rows, open_parquet, parquet_columns
from .ids import as_objects, external_id
from .layout import Layout, find_layout
from .log import InteractionLog
from .logfile import Request
from .numpy_reader import larger, whole_lines
from .source import STDIN, Piece, Source
from .table import Table, concatenate, take_rows

STREAM_BYTES = 64 << 20
"""Smaller files of text are read whole."""
STREAM_ROWS = 4 << 20
"""Smaller parquet files are read whole."""
PIECE_BYTES = 1 << 20
PIECE_ROWS = 1 << 16
_REMEMBERED = 1 << 20
HISTORY_NAMES = ("history", "items", "item_ids", "sequence")
JSONL = (".jsonl", ".ndjson")


class Part(NamedTuple):
    """Some users of a log, whole, and how much of the source has been read by now."""

    log: InteractionLog
    done: int


@dataclass(frozen=True)
class Histories:
    """A log that comes in parts.

    Attributes:
        parts: gives them, once.
        total: what `Part.done` ends at; None where that is not known before.
        unit: what is counted.
        notes: what to know about how it is read.
    """

    parts: Callable[[], Iterator[Part]]
    total: int | None
    unit: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """A log that was looked at: in parts, or why it must be read whole, and from where."""

    histories: Histories | None = None
    source: Source | None = None
    why_whole: str = ""


@dataclass
class Seen:
    """Users so far, to notice one who comes again, in 8 MiB.

    All of them are remembered up to about a million, then a share of them: an ungrouped file, in
    which many come again, is noticed all the same.
    """

    _kept: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    _limit: int = 2**64 - 1

    def add(self, user_ids: NDArray[Any]) -> Any:
        """Add users; one who comes again, or None."""
        mixed = _keys(user_ids).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        places = np.flatnonzero(mixed <= np.uint64(self._limit))
        order = np.argsort(mixed[places], kind="stable")
        places = places[order]
        new = mixed[places]
        at = np.searchsorted(self._kept, new)
        again = at < len(self._kept)
        again[again] = self._kept[at[again]] == new[again]
        again[1:] |= new[1:] == new[:-1]
        if again.any():
            return user_ids.tolist()[places[int(again.argmax())]]
        self._kept = np.sort(np.concatenate((self._kept, new)), kind="stable")
        while len(self._kept) > _REMEMBERED:
            self._limit //= 2
            self._kept = self._kept[self._kept <= np.uint64(self._limit)]
        return None


def _keys(ids: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each id; 7 and "7" are one id."""
    if ids.dtype != object:
        return ids
    texts = ids.tolist()
    return np.array([int(t) if is_canonical(t.encode()) else hash(t) for t in texts], np.int64)


class _Reading(NamedTuple):
    """How parts become logs."""

    config: DataConfig
    soft: frozenset[str]
    request: Request
    name: str

    def log(self, table: Table) -> InteractionLog:
        """The log of rows that hold each of their users whole."""
        filters = filters_of(self.config, self.soft)
        if table.ratings is None and not filters.ratings_needed:
            filters = replace(filters, min_rating=None)
        apply_filters(table, filters, self.name, empty_is_fine=True)
        csr = reader.group_rows(table, reader.choose(self.request.reader), 1)
        return build_log(csr, table, "", self.name)

    def logs(self, tables: Iterator[tuple[Table, int]]) -> Iterator[Part]:
        """Parts of tables, each user of which must be new."""
        seen = Seen()
        for table, done in tables:
            again = seen.add(table.user_ids)
            if again is not None:
                raise InputError(
                    f"{self.name}: user {again!r} comes again; a log that is read bit by bit has "
                    "each user once, or all rows of a user together: sort it by user"
                )
            log = self.log(table)
            if log.n_users:
                yield Part(log, done)


def open_histories(config: DataConfig, soft: Iterable[str], threads: int) -> Opened:
    """Look at the log that `config.data` names.

    Args:
        config: what to read, as for `load_other`.
        soft: parts of it that need not be there as named, as for `load_other`.
        threads: as for `load_other`.

    Raises:
        InputError: it cannot be read, or has not the columns that are needed.
    """
    assert config.data is not None
    refuse_idle_options(config)
    parts = frozenset(soft)
    path = Path(config.data)
    try:
        if config.data != STDIN and path.is_dir():
            return Opened(why_whole="a folder of parts")
    except (OSError, ValueError):  # said where it is opened
        pass
    source = Source(config.data if config.data == STDIN else path)
    reading = _Reading(config, parts, request_of(config, threads, parts), source.name)
    if _is_jsonl(source, config):
        pieces = _json_tables(source, reading.request.columns)
        return Opened(Histories(lambda: reading.logs(pieces), source.size, "bytes"))
    format = config.format
    if format == "auto":
        format = detect_format(source, reading.request.columns)
    if format == "parquet":
        return _open_parquet(source, reading)
    columns, rated = reading.request.columns, reading.request.need_rating
    layout = find_layout(source, format, columns, rated)
    small = source.size is not None and source.size < STREAM_BYTES
    if layout.kind == "text":
        if small:
            return Opened(source=source)
        tables = _tables(source, layout, reading.request.reader)
        return Opened(
            Histories(lambda: reading.logs(tables), source.size, "bytes", layout.warnings)
        )
    if source.size is None or source.path is None:
        return Opened(source=source, why_whole="rows of interactions from a pipe")
    if small:
        return Opened(source=source)

    def again() -> Iterator[tuple[Table, int]]:
        return by_user(_tables(Source(path), layout, reading.request.reader))

    if not _is_grouped(by_user(_tables(source, layout, reading.request.reader))):
        return Opened(why_whole=_SCATTERED)
    notes = (*layout.notes, *layout.warnings)
    return Opened(Histories(lambda: reading.logs(again()), source.size, "bytes", notes))


_SCATTERED = (
    "the rows of a user do not stand together (sorted by user, it would be read bit by bit)"
)


def _is_jsonl(source: Source, config: DataConfig) -> bool:
    suffix = Path(source.format_name).suffix.lower()
    return config.format == "auto" and (
        suffix in JSONL or (source.path is None and source.head().lstrip()[:1] == b"{")
    )


def parts_of(log: InteractionLog, users: int = PIECE_ROWS // 4) -> Iterator[Part]:
    """A log that is at hand, some of its users at a time."""
    for first in range(0, log.n_users, users):
        rows = slice(first, min(first + users, log.n_users))
        begin, end = int(log.offsets[rows.start]), int(log.offsets[rows.stop])
        yield Part(
            replace(
                log,
                items=log.items[begin:end],
                offsets=log.offsets[rows.start : rows.stop + 1] - begin,
                times=None,
                user_ids=log.user_ids[rows],
            ),
            rows.stop,
        )


# Tables of whole users.


def _is_grouped(tables: Iterator[tuple[Table, int]]) -> bool:
    seen = Seen()
    for table, _ in tables:
        starts = _run_starts(table)
        if len(starts) != len(table.user_ids) or seen.add(table.user_ids) is not None:
            return False
    return True


def _run_starts(table: Table) -> NDArray[np.int64]:
    """Where another user's rows begin than the row before."""
    users = table.users
    return np.flatnonzero(np.concatenate(([True], users[1:] != users[:-1]))[: len(users)])


def by_user(tables: Iterator[tuple[Table, int]]) -> Iterator[tuple[Table, int]]:
    """The same rows, cut where the user changes."""
    held: list[Table] = []  # rows of one user, who may go on
    done = 0
    for table, done in tables:
        if not len(table.users):
            continue
        starts = _run_starts(table)
        first = str(table.user_ids[table.users[0]])
        goes_on = bool(held) and str(held[0].user_ids[held[0].users[0]]) == first
        if len(starts) == 1 and (goes_on or not held):
            held.append(table)
            continue
        head, tail = (
            take_rows(table, slice(0, starts[-1])),
            take_rows(table, slice(starts[-1], None)),
        )
        yield concatenate([*held, head]), done
        held = [tail]
    if held:
        yield concatenate(held), done


def _pieces(source: Source, offset: int) -> Iterator[bytes]:
    """The bytes from `offset` on, some whole lines at a time."""
    for text in whole_lines(larger(source.blocks(offset), PIECE_BYTES)):
        at = 0
        while at < len(text):
            end = text.find(b"\n", at + PIECE_BYTES) + 1 or len(text)
            yield text[at:end]
            at = end


def _tables(source: Source, layout: Layout, wanted: str) -> Iterator[tuple[Table, int]]:
    """The rows of a text file, some whole lines at a time."""
    chosen = reader.choose(wanted)
    line = layout.first_line
    for text in _pieces(source, layout.offset):
        there = replace(layout, offset=0, first_line=line)
        table = reader.read_table(Piece(source.name, text), there, chosen, 1, empty_is_fine=True)
        line += text.count(b"\n")
        if len(table.users):
            yield table, source.came


# JSONL.


def _json_tables(source: Source, columns: ColumnNames) -> Iterator[tuple[Table, int]]:
    """The rows of lines such as {"user": "ann", "history": ["lamp", "desk"]}."""
    line, keys = 1, None
    for text in _pieces(source, 0):
        users: list[Any] = []
        items: list[Any] = []
        counts: list[int] = []
        for number, raw in enumerate(text.split(b"\n"), line):
            if not raw.strip():
                continue
            place = f"{source.name}:{number}"
            row = _json_row(raw, place)
            keys = keys or _json_keys(row, columns, place)
            user, history = _json_history(row, keys, place)
            users.append(user)
            items += history
            counts.append(len(history))
        line += text.count(b"\n")
        if users:
            _check_texts(users, source.name)
            codes, item_ids = _coded(items)
            owners = np.repeat(np.arange(len(users), dtype=np.int32), counts)
            yield Table(owners, codes, _as_ids(users), item_ids), source.came


_EXPECTED = 'expected one history a line, {"user": ID, "history": [ID, ...]}, oldest first'


def _json_row(raw: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: no JSON ({str(error)[:80]}), {_EXPECTED}") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: {str(row)[:80]!r}, {_EXPECTED}")
    return row


def _json_keys(row: dict[str, Any], columns: ColumnNames, place: str) -> tuple[str, str]:
    """What the user and the history are called."""
    names = list(row)
    fitting = columns.fitting(names)
    try:
        user = find_column(place, names, fitting.user, USER_NAMES, "--user-col", "the user ids")
        item = find_column(place, names, fitting.item, HISTORY_NAMES, "--item-col", "the histories")
    except InputError as error:
        raise InputError(f"{error}; {_EXPECTED}") from None
    return names[user], names[item]


def _json_history(row: dict[str, Any], keys: tuple[str, str], place: str) -> tuple[Any, list[Any]]:
    for key in keys:
        if key not in row:
            raise InputError(f"{place}: no {key!r}, {_EXPECTED}")
    history = row[keys[1]]
    if not isinstance(history, list):
        raise InputError(f"{place}: {keys[1]!r} is {str(history)[:80]!r}, {_EXPECTED}")
    plain = {type(value) for value in history} <= {int, str}
    try:
        user = external_id(row[keys[0]])
        return user, history if plain else [external_id(v, i) for i, v in enumerate(history)]
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_texts(users: list[Any], name: str) -> None:
    for user in users:
        if type(user) is str:
            try:
                user.encode()
            except UnicodeEncodeError:
                raise InputError(f"{name}: user {user!r} is not valid text") from None


def _as_ids(values: list[Any]) -> NDArray[Any]:
    """Ids as an array: of integers where all are, else of texts."""
    if all(type(value) is int and -(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    return as_objects([str(value) for value in values])


def _coded(values: list[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    codes: dict[Any, int] = {}
    coded = [codes.setdefault(value, len(codes)) for value in values]
    return np.array(coded, np.int32), _as_ids(list(codes))


# Parquet.


def _open_parquet(source: Source, reading: _Reading) -> Opened:
    if source.path is None or not source.plain:
        return Opened(source=source)  # refused there
    path, columns = source.path, reading.request.columns
    with open_parquet(path) as file:
        rows = file.metadata.num_rows
        lists = _list_columns(file.schema_arrow, columns, str(path))
    if lists is not None:
        user, item = lists
        return Opened(Histories(lambda: reading.logs(_list_tables(path, user, item)), rows, "rows"))
    if rows < STREAM_ROWS:
        return Opened(source=source)
    if not _is_grouped(by_user(_parquet_tables(path, reading.request))):
        return Opened(why_whole=_SCATTERED)
    tables = by_user(_parquet_tables(path, reading.request))
    return Opened(Histories(lambda: reading.logs(tables), rows, "rows"))


def _list_columns(schema: Any, columns: ColumnNames, place: str) -> tuple[str, str] | None:
    """The columns of the users and of their histories, where there are lists; else None."""
    names = list(schema.names)
    fitting = columns.fitting(names)
    item = match_any(names, HISTORY_NAMES)
    if fitting.item is not None:
        item = find_column(place, names, fitting.item, (), "--item-col", "the histories")
    if item < 0 or "list" not in str(schema.field(item).type):
        return None
    user = find_column(place, names, fitting.user, USER_NAMES, "--user-col", "the user ids")
    return names[user], names[item]


def _chunked(array: Any) -> Any:
    """An arrow array as a column of a table."""
    import pyarrow

    return pyarrow.chunked_array([array])


def _list_tables(path: Path, user: str, item: str) -> Iterator[tuple[Table, int]]:
    """The rows of a file with a list of items for each user."""
    done = 0
    with open_parquet(path) as file:
        for batch in file.iter_batches(PIECE_ROWS, columns=[user, item]):
            histories = batch.column(item)
            counts = histories.value_lengths().fill_null(0).to_numpy()
            users, user_ids = code_ids(user, _chunked(batch.column(user)))
            items, item_ids = code_ids(item, _chunked(histories.flatten()))
            if len(user_ids) < len(users):
                twice = user_ids.tolist()[int(np.bincount(users).argmax())]
                raise InputError(f"{path}: user {twice!r} comes again, expected one row a user")
            done += len(users)
            yield Table(np.repeat(users, counts), items, user_ids, item_ids), done


def _parquet_tables(path: Path, request: Request) -> Iterator[tuple[Table, int]]:
    """The rows of a file with one interaction each."""
    done = 0
    with open_parquet(path) as file:
        picked, used = parquet_columns(file, path, request.columns, request.need_rating)
        for batch in file.iter_batches(PIECE_ROWS, columns=list(used.values())):
            columns = {part: _chunked(batch.column(name)) for part, name in used.items()}
            try:
                table = frame_rows(columns, used, picked).table
            except InputError as error:
                raise InputError(f"{path}, counted from row {done}: {error}") from None
            done += batch.num_rows
            yield table, done
