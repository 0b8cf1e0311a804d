"""A data set as the rest of the package sees it: the log, its split, its card.

`load_dataset` is the one way in for the trainer; `Dataset.from_file`, `from_frame` and `named` are
the same for people. What to load is a `DataConfig`, whose defaults live in config.py.
"""

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import DEFAULT_DATASET, DataConfig, TrainConfig
from ..config_keys import Given, check, collect_keys
from ..console import Console
from ..errors import InputError
from . import census, grown, named, prepared, reader
from .build import Filters, Removed, apply_filters, build_log
from .card import DataCard, Origin, make_card
from .columns import ColumnNames
from .frame import frame_table
from .ids import ids_digest
from .log import InteractionLog, content_digest
from .logfile import Request, Rows, read_log
from .other import in_numbers_of
from .samples import Samples, Split, split, training_counts
from .source import STDIN, Source
from .spool import Spool
from .synthetic import SyntheticConfig, generate
from .table import Table


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions ready for training.

    Attributes:
        log: all interactions.
        split: the samples to train on, validate and test.
        card: the figures, for people and for result.json.
        config: what was loaded and how; loading it again gives the same data set.
        recommended: the settings published for a named data set, by configuration key.
        counts: what `training_counts` returns, where it was counted before.
    """

    log: InteractionLog
    split: Split
    card: DataCard
    config: DataConfig
    recommended: dict[str, float] = field(default_factory=dict)
    counts: NDArray[np.float32] | None = None

    @property
    def name(self) -> str:
        """A short name, fit for a folder."""
        return self.card.name

    def training_counts(self) -> NDArray[np.float32]:
        """How often training sees each item, float32 [V]."""
        return training_counts(self.log, self.split.train) if self.counts is None else self.counts

    def numbered_as(self, item_ids: NDArray[Any]) -> "Dataset":
        """The same data set with its items numbered as a catalogue does.

        Args:
            item_ids: external ids of all items of the log, and of others perhaps [V], entry 0
                unused.

        Raises:
            InputError: an item of the log is not in the catalogue.
        """
        if item_ids.dtype == self.log.item_ids.dtype and np.array_equal(
            item_ids, self.log.item_ids
        ):
            return self
        log, kept = in_numbers_of(self.log, item_ids)
        if not kept.all():
            unknown = self.log.item_ids[self.log.items[int(np.flatnonzero(~kept)[0])]]
            raise InputError(f"{self.log.source}: item {unknown!r} is not in the catalogue")
        card = replace(self.card, item_ids_sha256=ids_digest(item_ids[1:]))
        return replace(self, log=log, card=card, counts=None)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> "Dataset":
        """Read a file; `options` are the fields of `DataConfig` (format, user_col, ...)."""
        with Console().waiting("reading the data"):
            return load_dataset(data=os.fspath(path), **options)

    @classmethod
    def named(cls, name: str, **options: Any) -> "Dataset":
        """Load a named data set, fetching it when it is not in the cache."""
        with Console().waiting("reading the data"):
            return load_dataset(dataset=name, **options)

    @classmethod
    def from_frame(
        cls, frame: Any, *, name: str = "frame", batch_size: int | None = None, **options: Any
    ) -> "Dataset":
        """Take any object with named columns: a dict of arrays, pandas, polars, pyarrow.

        Args:
            frame: the interactions, one row each; never changed.
            name: what to call it.
            batch_size: for the card.
            options: fields of `DataConfig` (user_col, item_col, time_col, min_user, ...).

        Raises:
            InputError: a column is missing or holds something else than ids or numbers.
        """
        for key in ("user_col", "item_col", "time_col", "rating_col", "then_by"):
            if options.get(key) is not None:  # pandas' columns may be called by numbers
                options[key] = str(options[key])
        config = _with_options(DataConfig(), options)
        if config.data is not None or config.dataset is not None or config.more:
            raise InputError(
                "from_frame takes its data from the frame, not from data, more or dataset"
            )
        refuse_idle_options(config)
        rows = frame_table(frame, _column_names(config), config.min_rating is not None, name)
        loaded = Loaded(name, "frame", "none", rows.table, rows.used, name)
        loaded.in_words = rows.in_words
        loaded.notes = (*rows.notes, *rows.warnings)
        _warn(name, rows.warnings)
        return _finish(loaded, config, batch_size)


@dataclass
class Loaded:
    """A table on its way to becoming a data set; the fields are those of `logfile.Rows`."""

    name: str
    format: str
    reader: str
    table: Table
    columns: Mapping[str, str]
    source: str
    sha256: str = ""
    in_words: bool = False
    notes: tuple[str, ...] = ()
    recommended: dict[str, float] = field(default_factory=dict)
    still_tied: int = 0


def _with_options(config: DataConfig, options: Mapping[str, Any]) -> DataConfig:
    """A configuration with options from Python, checked like those of a configuration file.

    Raises:
        TypeError: a name that it does not have.
        InputError: a value of a wrong type or out of range.
    """
    keys = {key.attribute: key for key in collect_keys("data", DataConfig).values()}
    for name in options:
        if name not in keys:
            raise TypeError(f"unknown option {name!r}, expected one of {', '.join(sorted(keys))}")
    return replace(
        config,
        **{name: check(keys[name], Given(_plain(x), "options")) for name, x in options.items()},
    )


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's, a path as text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _whole(name: str, value: int | None, default: int) -> int:
    """A number of threads or samples; None for the default.

    Raises:
        InputError: it is no whole number from 1.
    """
    value = default if value is None else _plain(value)
    if type(value) is not int or value < 1:
        raise InputError(f"{name} must be a whole number from 1, not {value!r}")
    return value


NOTHING_SOFT: frozenset[str] = frozenset()


def _column_names(config: DataConfig, soft: frozenset[str] = NOTHING_SOFT) -> ColumnNames:
    if config.ignore_times and config.time_col is not None:
        raise InputError("--ignore-times and --time-col contradict each other")
    if config.ignore_times and config.then_by is not None:
        raise InputError("--ignore-times and --then-by contradict each other")
    names = None
    if config.columns is not None:
        names = tuple(name.strip() for name in config.columns.split(","))
    return ColumnNames(
        config.user_col,
        config.item_col,
        config.time_col,
        config.rating_col,
        not config.ignore_times,
        config.then_by,
        names,
        config.header,
        soft,
    )


def filters_of(config: DataConfig, soft: frozenset[str] = NOTHING_SOFT) -> Filters:
    """Which rows a configuration leaves out."""
    if config.dedupe not in ("none", "first", "exact"):
        raise InputError(f"dedupe is {config.dedupe!r}, expected none, first or exact")
    return Filters(
        config.min_rating, config.dedupe, config.min_user, config.min_item, "rating" not in soft
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_idle_options(config: DataConfig) -> None:
    """Refuse options that would do nothing where they stand."""
    default = DataConfig()
    synthetic = config.data is None and config.dataset == "synthetic"
    for when, keys, unless in (
        ("without --dataset synthetic", _SYNTHETIC, synthetic),
        ("without --holdout temporal", _FRACTIONS, config.holdout == "temporal"),
        ("without --min-rating", ("rating_col",), config.min_rating is not None),
        ("with --dataset", ("format",), config.dataset is None),
    ):
        for key in keys:
            if not unless and getattr(config, key) != getattr(default, key):
                raise InputError(f"{key} is {getattr(config, key)}, which does nothing {when}")


_SYNTHETIC = ("synthetic_users", "synthetic_items", "synthetic_seed")
_FRACTIONS = ("valid_fraction", "test_fraction")


_NO_SAMPLES = Split(Samples(np.empty(0, np.int32), np.empty(0, np.int32)), None, None, 0, "none")


class LogWarning(UserWarning):
    """A log was read in a way that may not be what its owner means."""


def _warn(source: str, texts: list[str]) -> None:
    for text in texts:
        warnings.warn(f"{source}: {text}", LogWarning, stacklevel=4)


def _load_file(data: str, request: Request, opened: Source | None) -> Loaded:
    rows = read_log(data, request, opened)
    source = "standard input" if data == STDIN else data
    _warn(source, rows.warnings)
    loaded = _from_rows(rows, source)
    loaded.notes += named.settings_beside(loaded.sha256)
    return loaded


def request_of(
    config: DataConfig,
    threads: int,
    soft: frozenset[str] = NOTHING_SOFT,
    spool: Spool | None = None,
) -> Request:
    """How a configuration's file is read."""
    return Request(
        config.format,
        _column_names(config, soft),
        config.min_rating is not None,
        config.reader,
        threads,
        spool,
    )


def _from_rows(rows: Rows, source: str) -> Loaded:
    return Loaded(
        rows.name,
        rows.format,
        rows.reader,
        rows.table,
        rows.columns,
        source,
        rows.sha256,
        rows.in_words,
        (*rows.notes, *rows.warnings),
    )


def _load_named(name: str, config: DataConfig, threads: int, spool: Spool | None) -> Loaded:
    entry = named.find(name)
    path = named.fetch(entry)
    digest = file_sha256(path)
    named.check_digest(entry, path, digest)
    request = request_of(replace(config, format=entry.format), threads, spool=spool)
    rows = read_log(str(path), request)
    loaded = _from_rows(rows, str(path))
    loaded.name, loaded.sha256, loaded.notes = entry.name, digest, (entry.notice,)
    loaded.recommended = dict(entry.recommended)
    return loaded


def _finish(
    loaded: Loaded,
    config: DataConfig,
    batch_size: int | None,
    threads: int = 1,
    soft: frozenset[str] | None = None,
) -> Dataset:
    """The data set of a table; where `soft` says how it is read, one without samples."""
    loaded.notes += tuple(census.notes_on_table(loaded.table, dict(loaded.columns)))
    filters = filters_of(config, soft or NOTHING_SOFT)
    if loaded.table.ratings is None and not filters.ratings_needed:
        filters = replace(filters, min_rating=None)
    log, removed = _filtered_log(loaded, filters, threads)
    if soft is None:
        parts = split(
            log,
            config.holdout,
            valid_fraction=config.valid_fraction,
            test_fraction=config.test_fraction,
        )
    else:
        parts = _NO_SAMPLES
    findings = census.find(log, parts, census.take(log, loaded.reader, threads))
    card = make_card(
        log,
        parts,
        origin_of(loaded, log, parts, findings, config),
        findings,
        batch_size=_whole("batch_size", batch_size, TrainConfig().batch_size),
        filters=filters,
        removed=removed,
    )
    return Dataset(log, parts, card, config, loaded.recommended)


def origin_of(
    loaded: Loaded,
    log: InteractionLog,
    parts: Split,
    findings: census.Findings,
    config: DataConfig,
) -> Origin:
    """What a card says about where the rows come from."""
    span = census.time_span(log)
    return Origin(
        loaded.name,
        loaded.format,
        loaded.reader,
        loaded.columns,
        census.show_times(span, loaded.columns.get("time"), loaded.in_words),
        (
            *loaded.notes,
            *census.notes_on_times(span, loaded.in_words),
            *census.notes_on_findings(
                log, parts, findings, loaded.columns.get("then"), loaded.still_tied
            ),
            *census.notes_on_users(log, parts, name_ids=config.user_ids),
        ),
    )


def _filtered_log(loaded: Loaded, filters: Filters, threads: int) -> tuple[InteractionLog, Removed]:
    removed = apply_filters(loaded.table, filters, loaded.source)
    if loaded.table.then is not None:
        loaded.still_tied = census.still_tied(loaded.table)
    csr = reader.group_rows(loaded.table, loaded.reader, threads)
    log = build_log(csr, loaded.table, loaded.sha256, loaded.source)
    return log if log.sha256 else replace(log, sha256=content_digest(log)), removed


def _log_table(log: InteractionLog) -> Table:
    """A log as rows again, so that filters can work on it."""
    users = np.repeat(np.arange(log.n_users, dtype=np.int32), log.lengths)
    return Table(users, log.items - np.int32(1), log.user_ids, log.item_ids[1:], log.times)


def _load_synthetic(config: DataConfig) -> Loaded:
    size = SyntheticConfig(config.synthetic_users, config.synthetic_items, config.synthetic_seed)
    if config.min_rating is not None:
        raise InputError("--min-rating needs ratings, and the synthetic data set has none")
    for option in _column_names(config).given():
        raise InputError(f"{option} means nothing for the synthetic data set")
    log = generate(size)
    table = _log_table(log)
    if config.ignore_times:
        table.times = None
    entry = named.find("synthetic")
    return Loaded(
        "synthetic",
        "generated",
        "none",
        table,
        {},
        log.source,
        log.sha256,
        notes=(entry.notice,),
    )


def load_dataset(
    config: DataConfig | None = None,
    *,
    batch_size: int | None = None,
    threads: int | None = None,
    **options: Any,
) -> Dataset:
    """Load what a configuration names: a file, a named data set or the synthetic one.

    Args:
        config: what to load; None for the defaults.
        batch_size: samples of a batch, for the card's batches per epoch (None: the default).
        threads: threads the reader may use (None: all cores).
        options: fields of `DataConfig` that replace those of `config`.

    Returns:
        The data set. The same configuration and file give the same arrays, bit for bit.

    Raises:
        InputError: anything wrong with the file, the options or the download.
    """
    config = _with_options(config or DataConfig(), options)
    threads = _whole("threads", threads, os.cpu_count() or 1)
    if prepared.is_prepared(config.data):
        return _prepared(config, batch_size, NOTHING_SOFT)
    return _finish(load_rows(config, threads), config, batch_size, threads)


def load_other(
    config: DataConfig,
    soft: Iterable[str] = (),
    *,
    threads: int | None = None,
    opened: Source | None = None,
) -> Dataset:
    """A log that nothing is trained on: filtered, without samples, users of any length.

    Args:
        config: what to load.
        soft: parts of it ("user", "item", "time", "then", "rating", "names", "header") that the
            log need not have as they are named: the usual names do, and ratings may be missing.
        threads: threads the reader may use (None: all cores).
        opened: the file, where it was looked at before and cannot be opened again.

    Raises:
        InputError: anything wrong with the file, the options or the download.
    """
    threads, parts = _whole("threads", threads, os.cpu_count() or 1), frozenset(soft)
    if prepared.is_prepared(config.data):
        dataset = _prepared(config, None, parts)
        return replace(dataset, split=_NO_SAMPLES, counts=None)
    loaded = _load_first(config, request_of(config, threads, parts), opened)
    for path in config.more:
        _append(loaded, path, config, threads)
    return _finish(loaded, config, None, threads, parts)


def _prepared(config: DataConfig, batch_size: int | None, soft: frozenset[str]) -> Dataset:
    """The data set of a prepared log; where `soft` is not empty, as that of another run's."""
    assert config.data is not None
    if config.dataset is not None:
        raise InputError("give --data FILE or --dataset NAME, not both")
    given = frozenset(field.name for field in dataclasses.fields(DataConfig))
    if soft:
        given -= {"holdout", "valid_fraction", "test_fraction", "format"}
        given -= {name for name, part in PARTS.items() if part in soft}
    config = prepared.config_of(config, prepared.options_of(config.data), given)
    assert config.data is not None
    found = prepared.open_prepared(config.data)
    size = _whole("batch_size", batch_size, TrainConfig().batch_size)
    card = replace(
        found.card,
        name=Path(config.data).resolve().name,
        batch_size=size,
        batches_per_epoch=-(-found.split.train.size // size),
    )
    recommended: dict[str, float] = {}
    return Dataset(found.log, found.split, card, config, recommended, found.counts)


PARTS = {
    "user_col": "user", "item_col": "item", "time_col": "time", "rating_col": "rating",
    "then_by": "then", "columns": "names", "header": "header",
}  # fmt: skip
"""Which part of a log an option is about; `load_other` may have it soft."""


def load_rows(config: DataConfig, threads: int, spool: Spool | None = None) -> Loaded:
    """The rows of what a configuration names, as they come.

    Args:
        config: what to load.
        threads: threads the reader may use.
        spool: where the columns of a large file go instead of into memory.
    """
    loaded = _load_first(config, request_of(config, threads, spool=spool), None)
    for path in config.more:
        _append(loaded, path, config, threads)
    return loaded


def _append(loaded: Loaded, path: str, config: DataConfig, threads: int) -> None:
    """Put the rows of one more log behind those that were read."""
    request = request_of(replace(config, format="auto"), threads, _SOFT_IN_MORE)
    rows = read_log(path, request)
    _warn(path, rows.warnings)
    loaded.table, again = grown.appended(loaded.table, rows.table, path)
    both = f"{loaded.sha256 or loaded.source}+{rows.sha256}"
    loaded.sha256 = hashlib.sha256(both.encode()).hexdigest()
    held = f"; {again} of them are in the log before: counted once" if again else ""
    loaded.notes += (f"{path}: its rows go behind{held}", *rows.notes, *rows.warnings)


_SOFT_IN_MORE = frozenset(("user", "item", "time", "names", "header"))


def _load_first(config: DataConfig, request: Request, opened: Source | None) -> Loaded:
    if config.data is not None and config.dataset is not None:
        raise InputError("give --data FILE or --dataset NAME, not both")
    refuse_idle_options(config)
    if config.data is not None:
        return _load_file(config.data, request, opened)
    name = config.dataset or DEFAULT_DATASET
    if name == "synthetic":
        return _load_synthetic(config)
    return _load_named(name, config, request.threads, request.spool)
