"""`mclrec-fast import-checkpoint FILE.pth --data FILE --out RUN`: the authors' weights.

Turns a checkpoint of the authors' code into a run that `evaluate` accepts. Only the encoder is in
such a file (their code does not save the augmenters), so the run cannot be trained further. Loading
admits tensors only; nothing in the file is executed.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configuration
from ..config_keys import Given
from ..errors import InputError
from . import cli

if TYPE_CHECKING:
    from torch import Tensor

_ITEMS = "item_embedding.weight"
_SHAPES = {
    "hidden_size": (_ITEMS, 1),
    "max_length": ("position_embedding.weight", 0),
    "inner_size": ("trm_encoder.layer.0.feed_forward.dense_1.weight", 0),
}


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("import-checkpoint", "Make a run of a checkpoint of the authors' code.")
    parser.add_argument("file", metavar="FILE.pth", type=Path, help="the checkpoint")
    parser.add_argument("--out", metavar="RUN", type=Path, required=True, help="run directory")
    cli.add_config_options(parser, sections=("data",))
    cli.add_setting_options(parser)
    return parser


def read_state_dict(path: Path) -> dict[str, "Tensor"]:
    """The `state_dict` of a torch-saved file, float32 on the CPU.

    Raises:
        InputError: no such file, not a checkpoint, or one that holds more than tensors.
    """
    import torch

    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path}: not a torch checkpoint (more than the memory holds)") from None
    except Exception as error:  # a damaged pickle raises errors of many kinds
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise InputError(f"{path}: not a torch checkpoint, or a damaged one") from None
        raise InputError(
            f"{path}: holds more than tensors ({found[1]}), so it could run code: refused; "
            "where it was made, save the weights alone: "
            "torch.save({'state_dict': model.state_dict()}, FILE)"
        ) from None
    state = saved.get("state_dict", saved) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping) or _ITEMS not in state:
        raise InputError(f"{path}: holds no 'state_dict' with {_ITEMS}: not the authors' model")
    saved_tensors = {str(n): t for n, t in state.items() if isinstance(t, torch.Tensor)}
    for name, tensor in saved_tensors.items():
        if not _is_plain(tensor):
            raise InputError(
                f"{path}: weight {name} is no plain tensor of real numbers ({tensor.dtype}, "
                f"{tensor.layout}, {tensor.device}): save model.state_dict() on the CPU"
            )
    tensors = {name: tensor.float() for name, tensor in saved_tensors.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: weight {name} is not finite")
    return tensors


def _is_plain(tensor: "Tensor") -> bool:
    """Whether all of its numbers are real, in memory, and each there once."""
    import torch

    return (
        not tensor.is_nested
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_complex()
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def settings_of(state: Mapping[str, "Tensor"], path: Path) -> dict[str, Given]:
    """The configuration keys that the shapes of the weights decide (heads are not among them).

    Raises:
        InputError: a weight is missing or has no such shape.
    """
    found: dict[str, Given] = {}
    for key, (name, axis) in _SHAPES.items():
        if name not in state or state[name].dim() != 2:
            raise InputError(f"{path}: {name} is missing or not a matrix: not the authors' model")
        found[key] = Given(int(state[name].shape[axis]), str(path))
    layers = {name.split(".")[2] for name in state if name.startswith("trm_encoder.layer.")}
    found["layers"] = Given(len(layers), str(path))
    return found


def verb(argv: Sequence[str] | None) -> None:
    """Parse, load, check, write."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    state = read_state_dict(arguments.file)
    for key, value in settings_of(state, arguments.file).items():
        if key in given and given[key].value != value.value:
            raise InputError(
                f"{given[key].origin}: {key} is {given[key].value}, but {arguments.file} has "
                f"{value.value}"
            )
        given[key] = value
    from ..console import Console
    from ..runs.imported import write_run

    resolved = configuration.resolve(given)
    write_run(arguments.file, state, resolved.config, arguments.out, Console(sys.stdout))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
