"""The functions at the top of the package that belong to no model."""

import os
from pathlib import Path
from typing import Any

from .data import Dataset
from .models.base import Model


def load(path: str | os.PathLike[str], *, device: str = "cpu") -> Model:
    """The model, of whatever class, that a run or `Model.save` left in a directory.

    Raises:
        InputError: there is none, or its files do not fit each other.
    """
    from .runs.loading import load_model

    return load_model(Path(path), device=device)


def evaluate(
    model: Model | str | os.PathLike[str],
    data: Dataset | str | os.PathLike[str],
    *,
    targets: str | None = None,
    past: Dataset | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The ranking metrics of a model, or of the run in a directory; see `Model.evaluate`."""
    found = model if isinstance(model, Model) else load(model)
    return found.evaluate(data, targets=targets, past=past, **settings)
