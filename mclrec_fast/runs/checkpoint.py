"""Checkpoints: tensors as safetensors, everything else as JSON in the same file's header.

One file is one state, so that replacing it is atomic; a digest of all of it is checked whenever it
is read. Holds no random generator: every random
number of a run has an address (seed, epoch, batch, update), and the counters here are enough.
Decides neither when to save nor what is best; that is the loop's.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .._files import require_regular
from ..errors import InputError
from .directory import new_file

FORMAT = "mclrec_fast"
VERSION = 2
_ANOTHER = "use another copy of the file"
_COUNTS = ("epoch", "batch", "step", "stale", "best_epoch", "best_step")


@dataclass
class Progress:
    """Where a run stands: everything resume needs beside the tensors.

    Attributes:
        epoch: epochs that are trained, validated and in the history.
        batch: batches done of the epoch after those.
        step: batches done in all.
        seconds: training seconds spent in that epoch so far.
        losses: sums over that epoch's samples so far, by loss name.
        stale: epochs in a row without a better validation.
        best_epoch: the epoch (from 1) of the best validation, 0 before any.
        best_step: batches done in all when it was reached.
        best_value: its value of the monitored metric.
        history: the metrics records of the epochs done.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    best_epoch: int = 0
    best_step: int = 0
    best_value: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def pack(tree: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """A state dict as JSON-able structure; its tensors go into `tensors`, named by their path.

    They are not copied if they lie on the CPU: a large model's state is there once.

    Keeps what JSON would lose: tuples, and keys that are not strings (optimizers number theirs).
    """
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().contiguous()
        return {"$tensor": path}
    if isinstance(tree, Mapping):
        return {
            "$items": [[pack(k, tensors), pack(v, tensors, f"{path}/{k}")] for k, v in tree.items()]
        }
    if isinstance(tree, tuple | list):
        kind = "$tuple" if isinstance(tree, tuple) else "$list"
        return {kind: [pack(v, tensors, f"{path}/{i}") for i, v in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"state at {path!r} holds a {type(tree).__name__}, which cannot be saved")


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of :func:`pack`."""
    if not isinstance(packed, dict):
        return packed
    ((kind, value),) = packed.items()
    if kind == "$tensor":
        return tensors[value]
    if kind == "$items":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in value}
    values = [unpack(v, tensors) for v in value]
    return tuple(values) if kind == "$tuple" else values


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes one safetensors file atomically; `header` travels as JSON in its metadata.

    Tensors on the CPU are written from where they lie, without a copy.

    Raises:
        RunError: the disk refuses; the old file is untouched.
    """
    text = json.dumps(header)
    own = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "header": text,
        "digest": digest(own, text),
    }
    with new_file(path) as file:
        for piece in _pieces(own, metadata):
            file.write(piece)


_TYPES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""What safetensors calls them, the widest first: so a tensor's place is a multiple of its width."""


def _pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """A safetensors file, bit by bit: the length of its header, the header, the tensors."""
    order = list(_TYPES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    described: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name in names:
        tensor, first = tensors[name], at
        at += tensor.nbytes
        described[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [first, at],
        }
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little")
    yield header
    for name in names:
        yield _bytes_of(tensors[name])


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def digest(tensors: Mapping[str, Tensor], header: str = "") -> str:
    """SHA-256 of tensors by name, with their types and shapes, and of the header."""
    found = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(_bytes_of(tensor))
    return found.hexdigest()


@contextlib.contextmanager
def _utf8_name(path: Path) -> Iterator[str]:
    """The file by a name in UTF-8, which safetensors insists on."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and header of a file that :func:`write` made.

    Raises:
        InputError: the file is missing, damaged or not ours.
    """
    try:
        require_regular(path)
        with _utf8_name(path) as name, safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a readable checkpoint: {error}") from None
    if metadata.get("format") != FORMAT or "header" not in metadata:
        raise InputError(f"{path}: a safetensors file, but not one of {FORMAT}")
    if metadata.get("version") != str(VERSION):
        raise InputError(
            f"{path}: checkpoint version {metadata.get('version')}, this is version {VERSION}"
        )
    if metadata.get("digest") != digest(tensors, metadata["header"]):
        raise InputError(f"{path}: damaged: its digest is not that of its content; {_ANOTHER}")
    try:
        header = json.loads(metadata["header"])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{path}: damaged: its header is no JSON object; {_ANOTHER}")
    return tensors, header


def save_state(
    path: Path,
    model: torch.nn.Module,
    optimizers: Mapping[str, Any],
    progress: Progress,
    best: Mapping[str, Tensor] | None = None,
    run: str = "",
) -> None:
    """Writes everything a run needs to go on.

    Args:
        path: the file to replace.
        model: its parameters and buffers.
        optimizers: the update step's state.
        progress: counters and history.
        best: the best weights, when best.safetensors is about to hold something that a resumed
            run must not see.
        run: the run's identity.
    """
    tensors: dict[str, Tensor] = {}
    header = {
        "model": pack(model.state_dict(), tensors, "model"),
        "optimizers": pack(optimizers, tensors, "optimizers"),
        "best": None if best is None else pack(best, tensors, "best"),
        "progress": dataclasses.asdict(progress),
        "run": run,
    }
    write(path, tensors, header)


@dataclass(frozen=True)
class State:
    """What :func:`save_state` wrote."""

    model: dict[str, Tensor]
    optimizers: dict[str, Any]
    best: dict[str, Tensor] | None
    progress: Progress
    run: str


def load_state(path: Path) -> State:
    """Reads what :func:`save_state` wrote.

    Raises:
        InputError: the file is missing, damaged or not a run's state.
    """
    tensors, header = read(path)
    if "progress" not in header:
        raise InputError(f"{path}: holds weights, not the state of a run")
    try:
        state = State(
            model=unpack(header["model"], tensors),
            optimizers=unpack(header["optimizers"], tensors),
            best=unpack(header["best"], tensors),
            progress=Progress(**header["progress"]),
            run=header["run"],
        )
        weights = [*state.model.values(), *({} if state.best is None else state.best).values()]
        whole = all(isinstance(weight, Tensor) for weight in weights)
        whole = whole and header["progress"].keys() == dataclasses.asdict(Progress()).keys()
        whole = whole and isinstance(state.optimizers, dict) and _is_whole(state.progress)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{path}: damaged: not the state of a run; {_ANOTHER}")
    return state


def _is_whole(progress: Progress) -> bool:
    """Whether every field is what its type says."""
    counts = [getattr(progress, name) for name in _COUNTS]
    sums = [progress.seconds, *progress.losses.values()]
    if progress.best_value is not None:
        sums.append(progress.best_value)
    return (
        all(type(count) is int and 0 <= count < 2**63 for count in counts)
        and all(type(value) in (int, float) and abs(value) < 1e300 for value in sums)
        and isinstance(progress.history, list)
        and all(
            isinstance(record, dict)
            and all(type(record.get(name)) in (int, float) for name in ("seconds", "samples"))
            for record in progress.history
        )
    )


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Copies weights into a model of the same names and shapes.

    Raises:
        InputError: naming the first weight that is missing, unknown or of another shape.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in weights:
            raise InputError(f"{origin}: weight {name} is missing: a checkpoint of another model")
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{origin}: weight {name} has shape {tuple(weights[name].shape)}, this model needs "
                f"{tuple(tensor.shape)}: a checkpoint of another data set or configuration"
            )
    for name in weights:
        if name not in own:
            raise InputError(f"{origin}: weight {name} has no place in this model")
    model.load_state_dict(dict(weights))
