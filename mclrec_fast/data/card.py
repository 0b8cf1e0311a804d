"""The data card: what a run learns from, said at its start and kept in its results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .build import Filters, Removed
from .census import Findings
from .ids import ids_digest
from .log import InteractionLog
from .samples import Split


@dataclass(frozen=True)
class DataCard:
    """Figures of a data set; `to_dict` is json-able, `render` is for people."""

    name: str
    source: str
    format: str
    reader: str  # "native", "numpy" or "none" (nothing was read)
    sha256: str
    users: int
    items: int
    interactions: int
    density: float
    length_mean: float
    length_min: int
    length_median: int
    length_p90: int
    length_p99: int
    length_max: int
    holdout: str
    train_samples: int
    batch_size: int
    batches_per_epoch: int
    valid_samples: int
    test_samples: int
    dropped_users: int
    times: str = ""
    tied_rows: int = 0
    duplicate_rows: int = 0
    repeated_interactions: int = 0
    repeated_valid_targets: int = 0
    repeated_test_targets: int = 0
    item_ids_sha256: str = ""
    user_ids_sha256: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    filters: dict[str, Any] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {**asdict(self), "notes": list(self.notes)}

    def render(self) -> str:
        """A few aligned lines of text."""
        rows = [
            ("data", f"{self.name}: {self.source}"),
            ("format", self._format_text()),
            ("sha256", self.sha256),
            ("users", _number(self.users)),
            ("items", _number(self.items)),
            ("interactions", f"{_number(self.interactions)} (density {self.density:.3%})"),
            ("lengths", self._length_text()),
            ("times", self.times),
            *self._filter_rows(),
        ]
        if self.train_samples or self.valid_samples or self.test_samples:
            rows.append(("samples", self._sample_text()))
        if self.dropped_users:
            rows.append(("dropped", f"{_number(self.dropped_users)} {self._dropped_text()}"))
        rows += [("note", note) for note in self.notes]
        return "\n".join(f"{label:<13}{text}" for label, text in rows)

    def _format_text(self) -> str:
        columns = ", ".join(f"{part} = {name!r}" for part, name in self.columns.items())
        text = self.format + (f" ({columns})" if columns else "")
        return text if self.reader == "none" else f"{text}, {self.reader} reader"

    def _length_text(self) -> str:
        return (
            f"min {self.length_min}, median {self.length_median}, p90 {self.length_p90}, "
            f"p99 {self.length_p99}, max {self.length_max}, mean {self.length_mean:.2f}"
        )

    def _filter_rows(self) -> list[tuple[str, str]]:
        if not self.filters:
            return []
        text = ", ".join(f"{name} {value}" for name, value in self.filters.items())
        gone = ", ".join(f"{name} {_number(rows)}" for name, rows in self.removed.items() if rows)
        return [("filters", f"{text}; rows removed: {gone or 'none'}")]

    def _sample_text(self) -> str:
        return (
            f"{_number(self.train_samples)} to train on "
            f"({_number(self.batches_per_epoch)} batches of {self.batch_size}), "
            f"{_number(self.valid_samples)} to validate, {_number(self.test_samples)} to test "
            f"({self.holdout})"
        )

    def _dropped_text(self) -> str:
        if self.holdout == "leave-one-out":
            return "users with fewer than 3 interactions give no sample"
        return "users give no sample (too short for this holdout)"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


@dataclass(frozen=True)
class Origin:
    """What a card says about where the rows come from and what is odd about them."""

    name: str
    format: str
    reader: str
    columns: Mapping[str, str]
    times: str
    notes: tuple[str, ...] = ()


def make_card(
    log: InteractionLog,
    split: Split,
    origin: Origin,
    findings: Findings,
    *,
    batch_size: int,
    filters: Filters,
    removed: Removed,
) -> DataCard:
    """The card of a log and its split."""
    lengths = log.lengths
    quantile = np.quantile(lengths, [0, 0.5, 0.9, 0.99, 1], method="inverted_cdf").tolist()
    used = {
        "min_rating": filters.min_rating,
        "dedupe": None if filters.dedupe == "none" else filters.dedupe,
        "min_user": filters.min_user if filters.min_user > 1 else None,
        "min_item": filters.min_item if filters.min_item > 1 else None,
    }
    samples = split.train.size
    return DataCard(
        name=origin.name,
        source=log.source,
        format=origin.format,
        reader=origin.reader,
        sha256=log.sha256,
        users=log.n_users,
        items=log.n_items,
        interactions=log.n_interactions,
        density=log.n_interactions / (log.n_users * log.n_items),
        length_mean=float(lengths.mean()),
        length_min=int(quantile[0]),
        length_median=int(quantile[1]),
        length_p90=int(quantile[2]),
        length_p99=int(quantile[3]),
        length_max=int(quantile[4]),
        holdout=split.holdout,
        train_samples=samples,
        batch_size=batch_size,
        batches_per_epoch=-(-samples // batch_size),
        valid_samples=split.valid.size if split.valid else 0,
        test_samples=split.test.size if split.test else 0,
        dropped_users=split.dropped_users,
        times=origin.times,
        **asdict(findings),
        item_ids_sha256=ids_digest(log.item_ids[1:]),
        user_ids_sha256=ids_digest(log.user_ids),
        columns=dict(origin.columns),
        filters={key: value for key, value in used.items() if value is not None},
        removed=asdict(removed),
        notes=origin.notes,
    )
