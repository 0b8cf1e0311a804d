"""From a log to a prepared one, in bounded memory: what dataset.py does in memory, in passes.

Memory grows with users and items, not with rows, where the C++ reader reads text; other sources are
read into memory first, of a folder one part. The folder appears whole or not at all.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import SUFFIX, make_directory, sync_directory
from ..config import DataConfig, TrainConfig
from ..errors import InputError
from . import census
from .build import with_padding
from .card import DataCard, make_card
from .dataset import Loaded, filters_of, load_rows, origin_of
from .ids import pack_ids
from .log import InteractionLog, content_digest
from .outside import Group, Left, filtered, groups
from .prepared import (
    NOT_OPTIONS,
    ArrayFile,
    Prepared,
    is_prepared,
    open_prepared,
    write_header,
)
from .samples import (
    Cuts,
    Samples,
    Split,
    cut_places,
    require_countable,
    require_samples,
    samples_of,
    training_counts,
)
from .spool import Spool, mapped

LOCK = "lock"


def prepare(config: DataConfig, out: Path, threads: int | None = None) -> Prepared:
    """Reads the log that a configuration names, and writes it as a prepared one.

    Args:
        config: what to read and how; all of it belongs to what is made.
        out: the folder to make.
        threads: that may be used (None: all cores).

    Returns:
        What was made, mapped. `load_dataset(data=out)` gives the data set that
        `load_dataset(config)` gives, bit for bit.

    Raises:
        InputError: anything wrong with the log or the options; `out` is there already.
        OSError: the disk is full or refuses; nothing is left behind.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: is there already: name a new folder, or take it away first")
    if is_prepared(config.data):
        raise InputError(f"{config.data}: is prepared already: copy the folder")
    threads = threads or os.cpu_count() or 1
    with _aside(out) as folder:
        with _spool_in(folder) as spool:
            _write(config, folder, spool, threads)
        _publish(folder, out)
    return open_prepared(out)


# The folder.


@contextlib.contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, gone when this is left by an error; so are those of the killed."""
    make_directory(out.absolute().parent)
    prefix = f".{out.name[:200]}."
    for leftover in out.absolute().parent.glob(f"{_escaped(prefix)}*{SUFFIX}"):
        if leftover.is_dir() and not leftover.is_symlink() and _is_free(leftover):
            shutil.rmtree(leftover, ignore_errors=True)
    folder = out.absolute().with_name(f"{prefix}{secrets.token_hex(6)}{SUFFIX}")
    folder.mkdir()
    with open(folder / LOCK, "wb") as lock:
        _hold(lock)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _hold(lock: Any) -> bool:
    """Holds a lock until it is closed; whether nobody else does."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_free(folder: Path) -> bool:
    """Whether nobody writes into a folder that was begun."""
    try:
        with open(folder / LOCK, "rb") as lock:
            return _hold(lock)
    except OSError:
        return False


def _publish(folder: Path, out: Path) -> None:
    (folder / LOCK).unlink()
    sync_directory(folder)
    try:
        os.rename(folder, out)
    except OSError as error:  # somebody made it meanwhile
        raise InputError(f"{out}: {error.strerror}: name a new folder") from None
    sync_directory(out.absolute().parent)


@contextlib.contextmanager
def _spool_in(folder: Path) -> Iterator[Spool]:
    place = folder / "spool"
    place.mkdir()
    try:
        yield Spool(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


# The content.


@dataclass
class _Totals:
    """What is counted over the users."""

    counts: NDArray[np.int64]  # [V], items that training sees
    findings: dict[str, int]
    still_tied: int = 0
    dropped: int = 0


class _Files:
    """The arrays that grow with the rows."""

    def __init__(self, folder: Path, times: Any, held_out: bool) -> None:
        self.items = ArrayFile(folder, "items", np.int32)
        self.offsets = ArrayFile(folder, "offsets", np.int64)
        self.times = None if times is None else ArrayFile(folder, "times", times.dtype)
        self.samples = {
            name: tuple(ArrayFile(folder, f"{name}_{of}", np.int32) for of in ("users", "ends"))
            for name in (("train", "valid", "test") if held_out else ("train",))
        }

    def append_samples(self, parts: Split, first_user: int) -> None:
        for name, (users, ends) in self.samples.items():
            samples: Samples = getattr(parts, name)
            users.append(samples.users + np.int32(first_user))
            ends.append(samples.ends)

    def close(self) -> dict[str, Any]:
        files = [self.items, self.offsets, *([] if self.times is None else [self.times])]
        files += [file for pair in self.samples.values() for file in pair]
        return {file.name: file.close() for file in files}


def _write(config: DataConfig, folder: Path, spool: Spool, threads: int) -> None:
    loaded = load_rows(config, threads, spool)
    loaded.notes += tuple(census.notes_on_table(loaded.table, dict(loaded.columns)))
    filters = filters_of(config)
    left = filtered(loaded.table, filters, loaded.source, spool)
    cuts = _cuts(left, config, loaded.source) if config.holdout == "temporal" else None
    files = _Files(folder, loaded.table.times, config.holdout != "none")
    item_ids = with_padding(loaded.table.item_ids)
    totals = _grouped(
        left, files, _Protocol(config.holdout, cuts, item_ids), loaded, spool, threads
    )
    arrays = files.close()
    for name, ids in (("user_ids", loaded.table.user_ids), ("item_ids", item_ids)):
        for part, array in pack_ids(ids).items():
            file = ArrayFile(folder, f"{name}_{part}", array.dtype)
            file.append(array)
            arrays[file.name] = file.close()
    counts = ArrayFile(folder, "counts", np.float32)
    counts.append(totals.counts.astype(np.float32))
    arrays[counts.name] = counts.close()
    log, parts = _mapped(folder, arrays, loaded, item_ids, totals, config.holdout, cuts)
    require_samples(parts, loaded.source, log.n_users)
    findings = census.Findings(**totals.findings)
    loaded.still_tied = totals.still_tied
    batch_size = TrainConfig().batch_size
    card = make_card(
        log,
        parts,
        origin_of(loaded, log, parts, findings, config),
        findings,
        batch_size=batch_size,
        filters=filters,
        removed=left.removed,
    )
    write_header(folder, _header(config, card, parts, arrays))


def _header(
    config: DataConfig, card: DataCard, parts: Split, arrays: dict[str, Any]
) -> dict[str, Any]:
    options = {
        field.name: getattr(config, field.name)
        for field in fields(DataConfig)
        if field.name not in NOT_OPTIONS
    }
    rest = ("dropped_users", "holdout", "valid_from", "test_from")
    notes = (*card.notes, f"prepared from {card.source}")
    return {
        "log": {"sha256": card.sha256, "source": card.source},
        "options": options,
        "split": {name: getattr(parts, name) for name in rest},
        "card": asdict(replace(card, notes=notes)),
        "arrays": arrays,
    }


@dataclass(frozen=True)
class _Protocol:
    """How samples are made of users."""

    holdout: str
    cuts: Cuts | None
    item_ids: NDArray[Any]


def _grouped(
    left: Left, files: _Files, protocol: _Protocol, loaded: Loaded, spool: Spool, threads: int
) -> _Totals:
    """Writes the rows of one group of users after the other; the totals."""
    counts = np.zeros(len(protocol.item_ids), np.int64)
    totals = _Totals(counts, {field.name: 0 for field in fields(census.Findings)})
    files.offsets.append(np.zeros(1, np.int64))
    rows = 0
    for group in groups(left, spool, loaded.reader, threads):
        log = _log_of(group, loaded, protocol)
        require_countable(loaded.source, len(left.table.user_ids), int(log.lengths.max(initial=0)))
        parts = samples_of(log, protocol.holdout, protocol.cuts)
        found = census.find(log, parts, census.take(log, loaded.reader, threads))
        for name, value in asdict(found).items():
            totals.findings[name] += value
        totals.counts += training_counts(log, parts.train).astype(np.int64)
        totals.still_tied += group.still_tied
        totals.dropped += parts.dropped_users
        files.items.append(log.items)
        files.offsets.append(log.offsets[1:] + rows)
        if files.times is not None and log.times is not None:
            files.times.append(log.times)
        files.append_samples(parts, group.first)
        rows += log.n_interactions
    return totals


def _log_of(group: Group, loaded: Loaded, protocol: _Protocol) -> InteractionLog:
    """The log of some users; items as in the whole one."""
    users = loaded.table.user_ids[group.first : group.first + len(group.csr.offsets) - 1]
    return InteractionLog(
        group.csr.items, group.csr.offsets, group.csr.times, users, protocol.item_ids
    )


def _mapped(
    folder: Path,
    arrays: dict[str, Any],
    loaded: Loaded,
    item_ids: NDArray[Any],
    totals: _Totals,
    holdout: str,
    cuts: Cuts | None,
) -> tuple[InteractionLog, Split]:
    """What was written, to be looked at once more."""

    def array(name: str) -> Any:
        return mapped(folder / f"{name}.bin", arrays[name]["type"]) if name in arrays else None

    def samples(name: str) -> Samples | None:
        found = Samples(array(f"{name}_users"), array(f"{name}_ends"))
        return None if found.users is None else found

    table = loaded.table
    log = InteractionLog(
        array("items"),
        array("offsets"),
        array("times"),
        table.user_ids,
        item_ids,
        loaded.sha256,
        loaded.source,
    )
    if not log.sha256:
        log = replace(log, sha256=content_digest(log))
    train = samples("train")
    assert train is not None
    times = (None, None) if cuts is None else (float(cuts.valid), float(cuts.test))
    return log, Split(train, samples("valid"), samples("test"), totals.dropped, holdout, *times)


# The times at which a temporal split cuts.


def _cuts(left: Left, config: DataConfig, source: str) -> Cuts:
    rows = sum(len(part.users) for part in left.chunks())
    places = cut_places(
        source, rows, left.table.times is not None, config.valid_fraction, config.test_fraction
    )
    return Cuts(*(_ordered(left, place) for place in places))


def _ordered(left: Left, place: int) -> Any:
    """The time at a place in the order of times, by counting 16 bits of a key after the others."""
    assert left.table.times is not None
    known = np.uint64(0)
    for shift in (48, 32, 16, 0):
        counts = np.zeros(1 << 16, np.int64)
        for part in left.chunks():
            keys = _keys(part.times)
            if shift < 48:
                keys = keys[keys >> np.uint64(shift + 16) == known]
            digits = (keys >> np.uint64(shift)) & np.uint64(0xFFFF)
            counts += np.bincount(digits.astype(np.int64), minlength=1 << 16)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, place, side="right"))
        place -= int(ends[digit] - counts[digit])
        known = (known << np.uint64(16)) | np.uint64(digit)
    top = np.uint64(1 << 63)
    if left.table.times.dtype == np.int64:
        return np.uint64(known ^ top).view(np.int64)
    return np.uint64(known ^ top if known & top else ~known).view(np.float64)


def _keys(times: Any) -> NDArray[np.uint64]:
    """Unsigned integers in the order of times."""
    top = np.uint64(1 << 63)
    if times.dtype == np.int64:
        keys: NDArray[np.uint64] = times.view(np.uint64) ^ top
        return keys
    bits = (times + 0.0).view(np.uint64)
    keys = np.where(bits & top != 0, ~bits, bits | top)
    return keys
