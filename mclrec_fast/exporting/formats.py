"""How each kind of file is written and read back; what stands in it is export.py's.

Libraries that not everybody has are imported when their format is asked for.
"""

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError

Vectors = NDArray[np.float32]
Answer = Callable[[NDArray[np.int64]], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]
META = "mclrec_fast"
"""The name of what a file says of itself, JSON, where it has room for that."""


class Format(NamedTuple):
    """One kind of file.

    Attributes:
        suffix: what its names end in.
        needs: the libraries beside torch and numpy.
        of_model: whether it holds the model, or else item vectors.
        has_room: whether what it says of itself is in the file, or else beside it.
        write: what it holds, what it says, and where to.
        read: the same back: vectors or an `Answer`, and what it says ({} where it has no room).
    """

    suffix: str
    needs: tuple[str, ...]
    of_model: bool
    has_room: bool
    write: Callable[[Any, dict[str, Any], Path], None]
    read: Callable[[Path], tuple[Any, dict[str, Any]]]


def require(name: str, libraries: tuple[str, ...]) -> None:
    """Refuse a format whose libraries are not there.

    Raises:
        InputError: how to get them.
    """
    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise InputError(
                f'no {name} without {library} ({error}): pip install "mclrec_fast[export]"'
            ) from None


def _write_npy(vectors: Vectors, says: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)


def _read_npy(path: Path) -> tuple[Vectors, dict[str, Any]]:
    with path.open("rb") as file:
        return np.load(file, allow_pickle=False), {}


def _write_safetensors(vectors: Vectors, says: dict[str, Any], path: Path) -> None:
    from safetensors.numpy import save_file

    ids = json.dumps(says["item_ids"], ensure_ascii=False)
    rest = {name: value for name, value in says.items() if name != "item_ids"}
    save_file({"vectors": vectors}, path, {"item_ids": ids, META: json.dumps(rest)})


def _read_safetensors(path: Path) -> tuple[Vectors, dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        says = json.loads(metadata[META]) | {"item_ids": json.loads(metadata["item_ids"])}
        return file.get_tensor("vectors"), says


def _write_faiss(vectors: Vectors, says: dict[str, Any], path: Path) -> None:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path))


def _read_faiss(path: Path) -> tuple[Vectors, dict[str, Any]]:
    import faiss

    index = faiss.read_index(str(path))
    return index.reconstruct_n(0, index.ntotal), {}


@contextmanager
def _quietly() -> Iterator[None]:
    """While entered, the exporters of torch keep their progress and advice to themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _traced(model: torch.nn.Module, length: int) -> torch.export.ExportedProgram:
    """A model over padded histories of any number, int64 [B, L]."""
    example = torch.ones(2, length, dtype=torch.int64)
    shapes = {"items": {0: torch.export.Dim("histories", min=1)}}
    with torch.no_grad(), _quietly():
        return torch.export.export(model.eval(), (example,), dynamic_shapes=shapes, strict=False)


def _write_torch(model: torch.nn.Module, says: dict[str, Any], path: Path) -> None:
    text = json.dumps(says, ensure_ascii=False)
    with path.open("wb") as file, _quietly():
        program = _traced(model, says["max_length"])
        torch.export.save(program, file, extra_files={META: text})


def _read_torch(path: Path) -> tuple[Answer, dict[str, Any]]:
    says = {META: ""}
    with _quietly():
        program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=says).module()

    @torch.no_grad()
    def answer(items: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        h, scores, rows = (tensor.numpy() for tensor in program(torch.from_numpy(items)))
        return h, scores, rows

    return answer, json.loads(says[META])


def _write_onnx(model: torch.nn.Module, says: dict[str, Any], path: Path) -> None:
    import onnx

    with _quietly():
        program = torch.onnx.export(
            _traced(model, says["max_length"]),
            input_names=["items"],
            output_names=["representation", "scores", "rows"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for name, value in (("item_ids", says["item_ids"]), (META, says)):
        rest = {k: v for k, v in value.items() if k != "item_ids"} if name == META else value
        proto.metadata_props.add(key=name, value=json.dumps(rest, ensure_ascii=False))
    onnx.save(proto, str(path))


def _read_onnx(path: Path) -> tuple[Answer, dict[str, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    says = json.loads(metadata[META]) | {"item_ids": json.loads(metadata["item_ids"])}

    def answer(items: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        h, scores, rows = session.run(None, {"items": items})
        return h, scores, rows

    return answer, says


FORMATS = {
    "npy": Format(".npy", (), False, False, _write_npy, _read_npy),
    "safetensors": Format(".safetensors", (), False, True, _write_safetensors, _read_safetensors),
    "torch": Format(".pt2", (), True, True, _write_torch, _read_torch),
    "onnx": Format(
        ".onnx", ("onnx", "onnxscript", "onnxruntime"), True, True, _write_onnx, _read_onnx
    ),
    "faiss": Format(".faiss", ("faiss",), False, False, _write_faiss, _read_faiss),
}
