"""The ops of csrc/ops on emulated CUDA kernels: built, registered and put in the CPU's place.

The glue (checks, allocation, argument order) and every launcher and kernel are the very sources of
`_C_cuda`; only the compiler, the device and the stream differ.
"""

import ctypes
import functools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

import mclrec_fast.ops  # noqa: F401  (defines the schemas)
from mclrec_fast import _native

from . import build

NAMESPACE = "mclrec_fast_emulated"
SCHEDULES = {"forward": (0, 0), "reverse": (1, 0), "random": (2, 1)}


def sources() -> list[Path]:
    """Every launcher and every op file of the CUDA module, without its Python module."""
    csrc = build.ROOT / "csrc"
    glue = [*(csrc / "ops").glob("*.cpp"), csrc / "ops_cuda" / "precision.cpp"]
    return sorted((csrc / "cuda").glob("*.cu")) + sorted(glue)


def implemented() -> list[str]:
    """The ops with a CUDA kernel."""
    text = "".join(path.read_text() for path in sources())
    text = re.sub(r"#ifndef MCLREC_CUDA\n.*?#endif", "", text, flags=re.DOTALL)  # the CPU's own
    return sorted(set(re.findall(r'm\.impl\("(\w+)"', text)))


def build_flags() -> tuple[str, ...]:
    """What the glue needs to see of torch, whose tensors are hidden symbols and ours here not."""
    include = [f"-isystem{path}" for path in cpp_extension.include_paths()]
    target = "-DTORCH_TARGET_VERSION=0x020d000000000000"
    return ("-std=c++20", "-Wno-attributes", target, *include)


def link_flags() -> tuple[str, ...]:
    """What the glue is linked against."""
    paths = cpp_extension.library_paths()
    return (
        *(f"-L{path}" for path in paths),
        *(f"-Wl,-rpath,{path}" for path in paths),
        "-ltorch_cpu",
    )


@functools.cache
def _built() -> Path | Exception:
    """The library of all ops, built once per source state; a failure is not tried again."""
    try:
        flags = (*build_flags(), *build.sanitizers())
        return build.shared_library("ops", sources(), flags, link_flags())
    except RuntimeError as failure:
        return failure


PLAIN_ON_A_GPU = ("augmenter",)
"""Operators that are plain torch on a GPU, whatever backend is asked for."""


@functools.cache
def library() -> ctypes.CDLL:
    """Build (once per source state) and load the emulated ops; skips without a compiler."""
    if build.compiler() is None:
        pytest.skip("no C++ compiler: the CUDA emulation is not built")
    path = _built()
    if isinstance(path, Exception):
        raise path
    for op in implemented():
        schema = str(getattr(torch.ops.mclrec_fast, op).default._schema)
        torch.library.define(f"{NAMESPACE}::{op}", schema[schema.index("(") :])
    loaded = ctypes.CDLL(str(path))
    loaded.mclrec_emulation_launches.restype = ctypes.c_int64
    return loaded


@contextmanager
def emulated(
    monkeypatch: pytest.MonkeyPatch,
    schedule: str = "forward",
    *,
    tf32: bool = False,
    bf16: bool = False,
) -> Iterator[ctypes.CDLL]:
    """Within it, "native" on CPU tensors means the emulated CUDA kernels, under this schedule."""
    loaded = library()
    order, seed = SCHEDULES[schedule]
    loaded.mclrec_emulation_schedule(ctypes.c_int(order), ctypes.c_uint64(seed))
    loaded.mclrec_emulation_precision(ctypes.c_int(2 if bf16 else tf32))
    scope = torch.library.Library(_native.NAMESPACE, "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")
        for op in implemented():
            kernel = getattr(getattr(torch.ops, NAMESPACE), op).default
            scope.impl(op, kernel, "CPU", allow_override=True)
    monkeypatch.setattr(_native, "backend", _only_emulated)
    monkeypatch.setattr(_native, "has_kernel", lambda op, _device="cpu": op in implemented())
    try:
        yield loaded
    finally:
        monkeypatch.undo()
        scope._destroy()
        loaded.mclrec_emulation_precision(ctypes.c_int(0))


def _only_emulated(requested: str, device: object, op: str | None = None) -> str:
    """In the place of `_native.backend`: "native" is the emulation, and only that."""
    if requested != "native" or op in PLAIN_ON_A_GPU:
        return "torch"
    assert op is None or op in implemented(), f"{op} has no CUDA kernel"
    return "native"
