"""Who is told what happens in a training: callbacks of the user's, and the run's own reports.

Observers look on; they decide nothing. An exception of a user's callback ends the run, which is
kept, and names the callback.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..console import Console, fields
from ..errors import RunError
from ..metrics import Monitor
from ..runs.directory import RunDirectory


class Callback:
    """Told of a training's events, in this order; each does nothing unless it is overridden."""

    def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        """Before the first batch.

        Args:
            config: the whole configuration, by section and key.
            dataset: the data card.
        """

    def batch(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Behind every batch; reading a loss waits for the device.

        Args:
            step: batches done in all.
            losses: detached scalars by name.
        """

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Behind every epoch.

        Args:
            record: `epoch`, `step`, `samples`, `seconds`, `sequences_per_second`, `precision`,
                `loss` and `valid` by name, `best_epoch`: a line of metrics.jsonl.
        """

    def best(self, record: Mapping[str, Any]) -> None:
        """After `epoch`, where its weights are the best so far."""

    def ended(self, result: Mapping[str, Any]) -> None:
        """After the final evaluation: what result.json holds."""


def require_callbacks(callbacks: Iterable[object]) -> None:
    """Refuse what cannot be told of events.

    Raises:
        TypeError: one of them is no `Callback`.
    """
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks: {callback!r} is not a Callback; subclass mclrec_fast.Callback"
            )


class Observers(Callback):
    """Tells several, in order."""

    def __init__(self, own: Iterable[Callback], callbacks: Iterable[Callback], remedy: str) -> None:
        """Tell the package's own observers, then the user's callbacks.

        Args:
            own: their exceptions pass.
            callbacks: their exceptions become a `RunError` that names them.
            remedy: how to go on after that.
        """
        self._own, self._callbacks, self._remedy = tuple(own), tuple(callbacks), remedy

    def _tell(self, event: str, *arguments: Any) -> None:
        for observer in self._own:
            getattr(observer, event)(*arguments)
        for callback in self._callbacks:
            try:
                getattr(callback, event)(*arguments)
            except Exception as error:
                raise RunError(
                    f"callback {type(callback).__name__}.{event} raised "
                    f"{type(error).__name__}: {error}; {self._remedy}"
                ) from error

    def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._tell("started", config, dataset)

    def batch(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """See `Callback`."""
        if self._callbacks:  # the package's own look at epochs only
            self._tell("batch", step, losses)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._tell("epoch", record)

    def best(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._tell("best", record)

    def ended(self, result: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._tell("ended", result)


class EpochLines(Callback):
    """Says every epoch in one line that grep finds things in."""

    def __init__(self, console: Console, monitor: Monitor, epochs: int) -> None:
        """On this console, of so many epochs at most."""
        self._console, self._monitor, self._epochs = console, monitor, epochs

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        said: dict[str, Any] = {
            "epoch": f"{record['epoch']}/{self._epochs}",
            "step": record["step"],
            **record["loss"],
            "sequences/s": f"{record['sequences_per_second']:.0f}",
            "seconds": f"{record['seconds']:.1f}",
        }
        valid = record["valid"]
        if valid is not None:
            said[f"valid_{self._monitor}"] = self._monitor.value(valid)
            for protocol, name in _ALSO_SAID:
                if name in valid[protocol] and (protocol, name) != self._monitor:
                    prefix = "valid_" if protocol == "unmasked" else "masked_"
                    said[prefix + name] = valid[protocol][name]
            said["best_epoch"] = record["best_epoch"]
        self._console.line(fields(**said))


_ALSO_SAID = (("unmasked", "ndcg@10"), ("unmasked", "hr@10"), ("masked", "ndcg@10"))


class MetricsFiles(Callback):
    """Keeps metrics.jsonl and metrics.csv of a run's directory up to date."""

    def __init__(self, directory: RunDirectory, history: list[dict[str, Any]]) -> None:
        """In this directory, behind the records that a resumed run has already."""
        self._directory, self._history = directory, list(history)
        if history:
            directory.write_metrics(self._history)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._history.append(dict(record))
        self._directory.write_metrics(self._history)
