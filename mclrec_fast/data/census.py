"""What a log repeats and what looks odd in it, counted once and put into words for the card.

Ties and duplicates of rows, targets that a user had before, users who fill the samples, ids that
look like missing values. Nothing is changed here; each note says what can be done.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import reader
from .columns import epoch_unit
from .log import InteractionLog
from .samples import Samples, Split
from .table import Table
from .times import show_time

# How missing values are spelled by those who write them as text.
MISSING = frozenset(
    "nan NaN NAN none None NONE null NULL Null NA N/A n/a #N/A <NA> nil NIL NaT undefined".split()
)
_DECIMAL = re.compile(r"-?[0-9]+\.0+")
_LOOK = 1000
_MANY = 0.1  # a user with a larger part of the samples is named


class Census(NamedTuple):
    """Counts of a grouped log.

    Attributes:
        repeats: bool [I], the user had the item before.
        tied: rows of a user at a time at which the user has another row.
        duplicates: rows whose user, item and time are an earlier row's.
    """

    repeats: NDArray[np.bool_]
    tied: int
    duplicates: int


@dataclass(frozen=True)
class Findings:
    """The figures of the card that come from looking at all rows."""

    tied_rows: int
    duplicate_rows: int
    repeated_interactions: int
    repeated_valid_targets: int
    repeated_test_targets: int


def count_repeats(
    items: NDArray[np.int32], offsets: NDArray[np.int64], times: NDArray[Any] | None
) -> Census:
    """The census in numpy; the C++ one gives the same."""
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pair = users * (int(items.max(initial=0)) + 1) + items
    repeats = np.ones(len(items), dtype=np.bool_)
    repeats[np.unique(pair, return_index=True)[1]] = False
    if times is None or not len(items):
        return Census(repeats, 0, 0)
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    tied = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    moment = np.cumsum(np.concatenate([[0], ~same]))
    order = np.lexsort((items, moment))
    again = (moment[order][1:] == moment[order][:-1]) & (items[order][1:] == items[order][:-1])
    return Census(repeats, int(np.count_nonzero(tied)), int(np.count_nonzero(again)))


def find(log: InteractionLog, split: Split, census: Census) -> Findings:
    """The figures of a log and its split."""

    def repeated(samples: Samples | None) -> int:
        if samples is None:
            return 0
        return int(np.count_nonzero(census.repeats[log.offsets[samples.users] + samples.ends]))

    return Findings(
        census.tied,
        census.duplicates,
        int(np.count_nonzero(census.repeats)),
        repeated(split.valid),
        repeated(split.test),
    )


def _part(count: int, whole: int) -> str:
    return f"{count} of {whole} ({count / max(whole, 1):.1%})"


def still_tied(table: Table) -> int:
    """Rows that another row of their user ties with in time and in what breaks ties."""
    keys = [key for key in (table.then, table.times, table.users) if key is not None]
    order = np.lexsort(keys)
    same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for key in keys:
        same &= key[order][1:] == key[order][:-1]
    return int(np.count_nonzero(np.append(same, False) | np.append(False, same)))


def _note_on_ties(log: InteractionLog, tied: int, then: str | None, left: int) -> str:
    rows = (
        f"ties: {_part(tied, log.n_interactions)} rows have the time of another row of their user"
    )
    lost = "the order is the file's, which may mean nothing"
    if then is None:
        return f"{rows}; among those {lost}: if another column knows better, name it with --then-by"
    if not left:
        return f"{rows}; column {then!r} orders them"
    return f"{rows}; column {then!r} orders all but {left}; among those {lost}"


def notes_on_findings(
    log: InteractionLog, split: Split, found: Findings, then: str | None = None, left: int = 0
) -> list[str]:
    """What the figures mean and what can be done.

    Args:
        log: the log.
        split: its samples.
        found: the figures.
        then: the column that breaks ties of the times, if there is one.
        left: rows that are tied nevertheless.
    """
    notes = []
    if found.tied_rows:
        notes.append(_note_on_ties(log, found.tied_rows, then, left))
    if found.duplicate_rows:
        notes.append(
            f"duplicates: {_part(found.duplicate_rows, log.n_interactions)} rows repeat the user, "
            "item and time of another, and repeats are easy to predict: --dedupe exact drops them"
        )
    both = (split.valid, found.repeated_valid_targets), (split.test, found.repeated_test_targets)
    counts = [_part(count, samples.size) if samples else "" for samples, count in both]
    if any(count for _, count in both):
        new_only = (
            "; --dedupe first leaves the first of each, so that only new items are asked for"
            if (found.repeated_interactions - found.duplicate_rows) * 2 < log.n_interactions
            else ""
        )
        notes.append(
            f"repeats: {counts[0]} validation and {counts[1]} test targets are items that the user "
            "had before: no recommendation reaches them that leaves those out, only one with "
            f"--include-seen{new_only}"
        )
    return notes


def notes_on_users(log: InteractionLog, split: Split, name_ids: bool) -> list[str]:
    """Users who hold more than a tenth of the training samples."""
    samples = split.train
    if log.n_users <= 1 / _MANY:
        return []
    notes = []
    for user in np.flatnonzero(log.lengths > _MANY * samples.size)[:5].tolist():
        first, last = np.searchsorted(samples.users, [user, user + 1]).tolist()
        if last - first > _MANY * samples.size:
            who = f"user {log.user_ids[[user]].tolist()[0]!r}" if name_ids else "one user"
            notes.append(
                f"{who} holds {_part(last - first, samples.size)} training samples; if it stands "
                "for unknown users, take its rows out"
            )
    return notes


def _first_row(codes: NDArray[np.int32], code: int) -> tuple[int, int]:
    """The first row of a code, from 1, and how many there are."""
    rows = np.flatnonzero(codes == code)
    return int(rows[0]) + 1, len(rows)


def notes_on_ids(part: str, column: str, codes: NDArray[np.int32], ids: NDArray[Any]) -> list[str]:
    """Ids that look like missing values, and integers that are written as decimals."""
    if ids.dtype != object:
        return []
    notes = []
    listed: Sequence[str] = ids.tolist()
    missing = MISSING.intersection(listed)
    for code, text in enumerate(listed) if missing else ():
        if text in missing:
            row, count = _first_row(codes, code)
            notes.append(
                f"{part} id {text!r} ({column}) in row {row} looks like a missing value, and is an "
                f"id like any other ({count} rows): take those rows out if it is none"
            )
    decimals = sum(_DECIMAL.fullmatch(text) is not None for text in listed[:_LOOK])
    if decimals * 2 > min(len(listed), _LOOK):
        code = next(i for i, text in enumerate(listed) if _DECIMAL.fullmatch(text))
        row, _ = _first_row(codes, code)
        notes.append(
            f"{part} ids ({column}) are integers written as decimals ({listed[code]!r} in row "
            f"{row}); they stay text as they are written: ask for {listed[code]!r}, or write them "
            "without the decimals"
        )
    return notes


def notes_on_table(table: Table, columns: dict[str, str]) -> list[str]:
    """What looks odd in the ids and times of a table as it was read."""
    notes = []
    for part, codes, ids in (
        ("user", table.users, table.user_ids),
        ("item", table.items, table.item_ids),
    ):
        column = f"column {columns[part]!r}" if part in columns else "by line"
        notes += notes_on_ids(part, column, codes, ids)
    return notes


def time_span(log: InteractionLog) -> tuple[Any, Any] | None:
    """The first and the last time, None without times."""
    if log.times is None or not len(log.times):
        return None
    return log.times.min().item(), log.times.max().item()


def show_times(span: tuple[Any, Any] | None, column: str | None, in_words: bool) -> str:
    """The card's line on times: where they come from, and from when to when."""
    if span is None:
        return "none, the order of the file"
    first, last = span
    text = f"column {column!r}" if column else "yes"
    if in_words and isinstance(first, int):
        return f"{text}, {show_time(int(first))} to {show_time(int(last))} (UTC)"
    units = [epoch_unit(float(value)) for value in (first, last)]
    if units[0] and units[0] == units[1] and first > 0:
        scale = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
        stamps = [int(float(v) / scale[units[0]]) * 10**9 for v in (first, last)]
        return f"{text}, numbers, {show_time(stamps[0])} to {show_time(stamps[1])} if {units[0]}"
    return f"{text}, numbers from {first} to {last}"


def notes_on_times(span: tuple[Any, Any] | None, in_words: bool) -> list[str]:
    """Times in two units."""
    if span is None or in_words:
        return []
    first, last = float(span[0]), float(span[1])
    units = epoch_unit(first), epoch_unit(last)
    if all(units) and units[0] != units[1] and first > 0:
        return [
            f"times: the smallest ({first:.0f}) would be {units[0]} and the largest ({last:.0f}) "
            f"{units[1]} since 1970; are there two units in one column?"
        ]
    return []


def take(log: InteractionLog, chosen: str, threads: int) -> Census:
    """The census by the C++ reader or its twin."""
    counted = reader.count_repeats(log, chosen, threads)
    if counted is None:
        return count_repeats(log.items, log.offsets, log.times)
    return Census(*counted)
