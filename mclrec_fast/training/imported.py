"""A run made of somebody else's weights: checked against the data, then written like any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import _native
from ..config import Config
from ..errors import InputError
from ..model import Encoder
from ..model.authors import encoder_state
from . import checkpoint
from .console import Console
from .run_data import RunData, load_run_data
from .run_directory import BEST, DATA, ENVIRONMENT, RunDirectory
from .trained import ENCODER


def write_run(
    file: Path, state: Mapping[str, Tensor], config: Config, out: Path, console: Console
) -> None:
    """Writes a run whose best weights are an authors' state dict.

    Args:
        file: where the weights come from.
        state: the authors' names to tensors; the item embedding has one unused row at its end.
        config: the configuration the weights imply, with the data they belong to.
        out: the run's directory.
        console: what it says.

    Raises:
        InputError: the weights belong to another data set or shape, or `out` holds a run.
    """
    RunDirectory.check_free(out)
    data = load_run_data(config, console)
    weights = fitting_weights(file, state, config, data)
    with RunDirectory.create(out) as directory:
        console.attach(directory.log)
        directory.write_config(config)
        directory.write_json(ENVIRONMENT, _native.environment())
        directory.write_json(DATA, data.card)
        data.save_ids(directory.path)
        header: dict[str, Any] = {"epoch": 0, "step": 0, "valid_mrr@10": None}
        checkpoint.write(directory.path / BEST, weights, header | {"imported_from": str(file)})
        console.line(f"imported {file} into {out}")
        console.line(f"evaluate it with: python -m mclrec_fast.evaluate {out}")


def fitting_weights(
    file: Path, state: Mapping[str, Tensor], config: Config, data: RunData
) -> dict[str, Tensor]:
    """The weights under our names, if they fit the data and the configuration.

    Raises:
        InputError: naming what does not fit.
    """
    log = data.log
    rows = len(state["item_embedding.weight"])
    if rows != log.n_classes + 1:
        raise InputError(
            f"{file}: a checkpoint of another data set: it knows {rows - 2} items, "
            f"{log.source} has {log.n_items} (the authors' item table has two rows more)"
        )
    mine = encoder_state(state)
    checkpoint.load_weights(Encoder(log.n_classes, config.model), mine, str(file))
    return {ENCODER + name: tensor for name, tensor in mine.items()}
