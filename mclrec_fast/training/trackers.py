"""Figures to experiment trackers: callbacks for TensorBoard, Weights & Biases and MLflow.

Each imports its library when it is made, and says how to get it where it is missing. They send what
metrics.jsonl and result.json hold, under the same names.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs.directory import flatten
from .observers import Callback


def _library(module: str, package: str) -> Any:
    """An optional library, imported.

    Raises:
        InputError: it is not installed; naming what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"this tracker needs {package}: pip install {package} ({error})") from None


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a record, by its path."""
    return {
        name: float(value)
        for name, value in flatten(record).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class TensorBoard(Callback):
    """Writes event files for TensorBoard."""

    def __init__(self, directory: str | Path | None = None) -> None:
        """Into this directory (default: runs/tensorboard)."""
        self._module = _library("torch.utils.tensorboard", "tensorboard")
        self._directory = str(directory or "runs/tensorboard")

    def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._writer = self._module.SummaryWriter(self._directory)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        for name, value in _numbers(record).items():
            self._writer.add_scalar(name, value, record["epoch"])
        self._writer.flush()

    def ended(self, result: Mapping[str, Any]) -> None:
        """See `Callback`."""
        for name, value in _numbers({"test": result["test"]}).items():
            self._writer.add_scalar(name, value, result["best_epoch"])
        self._writer.close()


class WandB(Callback):
    """Logs to Weights & Biases, into the run that is active or a new one."""

    def __init__(self, **init: Any) -> None:
        """`init` goes to `wandb.init` where no run is active."""
        self._wandb, self._init = _library("wandb", "wandb"), init

    def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        """See `Callback`."""
        if self._wandb.run is None:
            self._wandb.init(**self._init)
        self._wandb.config.update({**flatten(config), "dataset": dataset["name"]})

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._wandb.log(_numbers(record), step=record["epoch"])

    def ended(self, result: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._wandb.summary.update(_numbers({"test": result["test"]}))


class MLflow(Callback):
    """Logs to MLflow, into the run that is active or a new one."""

    def __init__(self) -> None:
        """Where MLflow's own settings say."""
        self._mlflow = _library("mlflow", "mlflow")

    def started(self, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._mlflow.log_params({**flatten(config), "dataset": dataset["name"]})

    def epoch(self, record: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._log(_numbers(record), record["epoch"])

    def ended(self, result: Mapping[str, Any]) -> None:
        """See `Callback`."""
        self._log(_numbers({"test": result["test"]}), result["best_epoch"])

    def _log(self, numbers: dict[str, float], epoch: int) -> None:
        """MLflow's names have no '@'."""
        self._mlflow.log_metrics({n.replace("@", "_"): v for n, v in numbers.items()}, step=epoch)


TRACKERS: dict[str, Callable[[Path | None], Callback]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda _path: WandB(),
    "mlflow": lambda _path: MLflow(),
}


def tracker_of(name: str, path: Path | None) -> list[Callback]:
    """The tracker of that name for a run in `path`; none for "none".

    Raises:
        InputError: its library is not installed.
    """
    return [TRACKERS[name](path)] if name in TRACKERS else []
