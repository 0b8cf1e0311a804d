"""What a training began with, where that is not new weights; kept in data.json under `start`.

Part of a run's identity: the same data and settings give other bits from other weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import InputError

OPTIMIZERS = ("reset", "carry")


@dataclass(frozen=True)
class Start:
    """The weights that a training went on from.

    Attributes:
        weights: their SHA-256; "" for new ones.
        run: identity of the run they are of; "" for those of a model in memory.
        path: that run's directory, "" where nothing was kept of it.
        optimizer: "carry" where the optimizers' state was taken over, else "reset".
        items: how many items they knew.
        vectors: SHA-256 of the item vectors that went into new rows; "" where none did.
    """

    weights: str = ""
    run: str = ""
    path: str = ""
    optimizer: str = OPTIMIZERS[0]
    items: int = 0
    vectors: str = ""

    def decisive(self) -> list[str]:
        """What decides bits."""
        return [self.weights, self.run, self.optimizer, *([self.vectors] if self.vectors else [])]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any, origin: str) -> "Start":
        """The inverse of `to_dict`.

        Raises:
            InputError: values of another kind.
        """
        kinds = {field.name: field.type for field in fields(cls)}
        good = isinstance(values, Mapping) and set(values) <= set(kinds)
        if not good or any(type(v).__name__ != _name(kinds[n]) for n, v in values.items()):
            raise InputError(f"{origin}: what it says of the run's start is damaged")
        return cls(**values)


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else str(kind.__name__)
