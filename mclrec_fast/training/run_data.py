"""A run's data: the log, its split and its card, read as the configuration says.

Reading itself is `data`'s; here a run meets it, and a resumed or evaluated run makes sure that it
meets the same data again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import data as datasets
from ..config import Config
from ..errors import InputError
from ..sampling import SampleTable
from .console import Console
from .run_directory import DATA, read_json, writing

SPLITS = ("valid", "test")


@dataclass(frozen=True)
class RunData:
    """The log of a run, split into samples.

    Attributes:
        log: the interactions.
        split: training, validation and test samples.
        card: the data card, json-able.
        name: a short name, for the run's directory.
        keep_user_ids: user ids may be written into the run directory.
    """

    log: datasets.InteractionLog
    split: datasets.Split
    card: dict[str, Any]
    name: str
    keep_user_ids: bool

    def table(self, split: str, max_length: int, device: torch.device) -> SampleTable | None:
        """The samples of `train`, `valid` or `test` on a device; None where there are none."""
        samples = getattr(self.split, split)
        return None if samples is None else SampleTable(self.log, samples, max_length, device)

    @property
    def kept_user_ids(self) -> NDArray[Any] | None:
        """External user ids [U], if they may be kept."""
        return self.log.user_ids if self.keep_user_ids else None

    def save_ids(self, path: Path) -> None:
        """Writes the id maps into a run directory."""
        with writing(path / "item_ids"):
            datasets.save_ids(self.log, path, self.keep_user_ids)

    def require_same_as(self, path: Path) -> None:
        """Refuses data that is not what the run at `path` was made with.

        Raises:
            InputError: another file, or other item ids.
        """
        before = read_json(path / DATA)
        if before["sha256"] != self.log.sha256:
            raise InputError(
                f"{self.log.source} is not the data of {path}: its SHA-256 is {self.log.sha256}, "
                f"the run was made with {before['source']}, {before['sha256']}"
            )
        if not np.array_equal(datasets.load_ids(path).item_ids, self.log.item_ids):
            raise InputError(
                f"{self.log.source} gives other items than {path} was made with, although the file "
                "is the same: were the run's files changed?"
            )


def load_run_data(config: Config, console: Console) -> RunData:
    """Reads and splits the data of a configuration and says its card.

    Raises:
        InputError: the data will not do.
    """
    loaded = datasets.load_dataset(
        config.data, batch_size=config.train.batch_size, threads=config.train.threads
    )
    console.line(loaded.card.render())
    return RunData(
        log=loaded.log,
        split=loaded.split,
        card=loaded.card.to_dict(),
        name=loaded.name,
        keep_user_ids=config.data.user_ids,
    )
