"""A run made of somebody else's weights: checked against the data, then written like any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import Config
from ..console import Console
from ..data import Dataset, load_dataset
from ..errors import InputError
from ..models.authors import encoder_state
from ..models.encoder import Encoder
from ..models.options import EncoderOptions
from . import checkpoint
from .directory import BEST, RunDirectory
from .identity import identity
from .loading import write_data


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
    dataset = load_dataset(config.data, threads=config.train.threads)
    console.line(dataset.card.render())
    weights = fitting_weights(file, state, config, dataset)
    with RunDirectory.create(out) as directory:
        console.attach(directory.log)
        write_data(directory, config, dataset)
        run = identity(config, dataset.log.sha256)
        header: dict[str, Any] = {"epoch": 0, "step": 0, "value": None, "run": run}
        checkpoint.write(directory.path / BEST, weights, header | {"imported_from": str(file)})
        directory.write_config(config)  # last: without weights it would be a run to be trained
        console.line(f"imported {file} into {out}")
        console.line(f"evaluate it with: mclrec-fast evaluate {out}")


def fitting_weights(
    file: Path, state: Mapping[str, Tensor], config: Config, dataset: Dataset
) -> dict[str, Tensor]:
    """The weights under our names, if they fit the data and the configuration.

    Raises:
        InputError: naming what does not fit.
    """
    log, options = dataset.log, config.model
    if not isinstance(options, EncoderOptions):
        raise InputError(f"--model {options.name}: the authors' checkpoints hold SASRec's encoder")
    rows = len(state["item_embedding.weight"])
    if rows != log.n_classes + 1:
        raise InputError(
            f"{file}: a checkpoint of another data set: it knows {rows - 2} items, "
            f"{log.source} has {log.n_items} (the authors' item table has two rows more)"
        )
    mine = encoder_state(state)
    checkpoint.load_weights(Encoder(log.n_classes, options), mine, str(file))
    return {f"encoder.{name}": tensor for name, tensor in mine.items()}
