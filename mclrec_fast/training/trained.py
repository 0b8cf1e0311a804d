"""A finished run as others use it: its configuration and its best weights.

For evaluation and recommendation; needs no data and no optimizer state. Runs made from an imported
checkpoint hold the encoder alone, and that is all that ranking needs.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import config as configuration
from ..config import Config
from ..errors import InputError
from ..model import Encoder
from . import checkpoint
from .run_directory import BEST, CONFIG, LAST, read_json, require_run

ENCODER = "encoder."
ITEMS = "encoder.item_embedding.weight"
POPULARITY = "popularity"


class Trained(NamedTuple):
    """What a run learned.

    Attributes:
        config: its configuration.
        weights: the best weights by name.
        header: when they were reached: `epoch`, `step`, `valid_mrr@10`.
    """

    config: Config
    weights: dict[str, Tensor]
    header: dict[str, Any]

    @property
    def n_classes(self) -> int:
        """Item classes, padding included (V)."""
        return len(self.weights[ITEMS if ITEMS in self.weights else POPULARITY])

    def encoder(self, origin: str) -> Encoder:
        """The encoder with its weights, in evaluation mode, on the CPU.

        Args:
            origin: what to call the weights in an error message.

        Raises:
            InputError: the weights do not fit the configuration.
        """
        encoder = Encoder(self.n_classes, self.config.model)
        mine = {
            name.removeprefix(ENCODER): tensor
            for name, tensor in self.weights.items()
            if name.startswith(ENCODER)
        }
        checkpoint.load_weights(encoder, mine, origin)
        return encoder.eval()

    @property
    def is_popularity(self) -> bool:
        """Whether this is a popularity run, which has no encoder."""
        return self.config.model.model == POPULARITY

    def popularity(self) -> Tensor:
        """The scores of a popularity run, float32 [V]."""
        return self.weights[POPULARITY]


def load_trained(path: Path, origin: str = "RUN") -> Trained:
    """Loads a run's configuration and best weights.

    Args:
        path: the run's directory.
        origin: the argument it came from, for messages.

    Raises:
        InputError: there is no run, or it has no weights yet.
    """
    require_run(path, origin)
    config = configuration.from_dict(read_json(path / CONFIG), str(path / CONFIG))
    if not (path / BEST).exists():
        hint = f"; go on with: --resume {path}" if (path / LAST).exists() else ""
        raise InputError(f"{origin} {path}: no {BEST} yet, no epoch was finished{hint}")
    weights, header = checkpoint.read(path / BEST)
    if ITEMS not in weights and POPULARITY not in weights:
        raise InputError(f"{path / BEST}: holds no encoder")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise InputError(f"{path / BEST}: holds weights that are not finite")
    return Trained(config, weights, header)
