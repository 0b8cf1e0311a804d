"""Where a training keeps its state and its best weights: a run's directory, or memory alone.

What is worth keeping, and when, is the loop's to say.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from ..errors import InputError
from ..runs import checkpoint
from ..runs.checkpoint import Progress
from ..runs.directory import BEST, LAST, RunDirectory

Weights = Mapping[str, Tensor]


class Keeper(Protocol):
    """What the loop needs of a place to keep things."""

    def save(
        self, model: nn.Module, step: dict[str, Any], progress: Progress, best: Weights | None
    ) -> None:
        """Keep everything that a later training needs to go on; see `checkpoint.save_state`."""

    def save_best(self, weights: Weights, header: dict[str, Any]) -> None:
        """Keep the best weights, and when they were reached."""

    def best(self) -> Weights | None:
        """The best weights so far."""

    @property
    def place(self) -> str:
        """Where the last good state and the best weights are, for messages."""

    @property
    def way_on(self) -> str:
        """How to go on after an end before the end, for messages."""


class InDirectory:
    """Keeps a run's state and best weights in its directory."""

    def __init__(self, directory: RunDirectory, identity: str) -> None:
        """In this one, as files of the run of this identity."""
        self._path, self._identity = directory.path, identity

    def save(
        self, model: nn.Module, step: dict[str, Any], progress: Progress, best: Weights | None
    ) -> None:
        """See `Keeper`."""
        checkpoint.save_state(self._path / LAST, model, step, progress, best, self._identity)

    def save_best(self, weights: Weights, header: dict[str, Any]) -> None:
        """See `Keeper`."""
        checkpoint.write(self._path / BEST, weights, header | {"run": self._identity})

    def best(self) -> Weights | None:
        """See `Keeper`."""
        return checkpoint.read(self._path / BEST)[0] if (self._path / BEST).exists() else None

    def require_best(self) -> None:
        """Refuse to go on with a run whose best weights are gone.

        Raises:
            InputError: the file is missing.
        """
        if not (self._path / BEST).exists():
            raise InputError(
                f"{self._path / BEST} is missing: the run cannot go on without its best weights"
            )

    @property
    def place(self) -> str:
        """See `Keeper`."""
        return f"the last good state and the best weights so far are kept in {self._path}"

    @property
    def way_on(self) -> str:
        """See `Keeper`."""
        from .interrupt import resume_command

        return f"the state is saved; go on with: {resume_command(self._path)}"


class InMemory:
    """Keeps the best weights alone, for as long as the training lives."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._best: dict[str, Tensor] | None = None

    def save(
        self, model: nn.Module, step: dict[str, Any], progress: Progress, best: Weights | None
    ) -> None:
        """Keeps no state: nothing can go on from here."""

    def save_best(self, weights: Weights, header: dict[str, Any]) -> None:
        """See `Keeper`."""
        self._best = {name: weight.detach().clone() for name, weight in weights.items()}

    def best(self) -> Weights | None:
        """See `Keeper`."""
        return self._best

    @property
    def place(self) -> str:
        """See `Keeper`."""
        return "the model holds the best weights so far"

    @property
    def way_on(self) -> str:
        """See `Keeper`."""
        return "the model holds the best weights so far; fit(run=DIR) keeps runs that can go on"
