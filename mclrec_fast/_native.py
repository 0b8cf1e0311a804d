"""Finds the compiled modules, checks that they fit, and picks the backend of every operator.

Importing this module imports `_C` (CPU kernels) and, where torch has CUDA, `_C_cuda`; both
register their kernels with torch's dispatcher. Nothing here computes: an operator asks
`backend(...)` once per call. "auto" may fall back to plain PyTorch and says so once, with the
reason and the remedy; an explicit "native" never falls back.

Environment: MCLREC_FAST_BACKEND (what "auto" means: auto, torch or native), MCLREC_FAST_ISA (an
instruction set, such as portable), MCLREC_FAST_DISABLE_NATIVE=1 (as if nothing were compiled).
"""

import functools
import importlib
import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from . import _fork
from .errors import InputError

Backend = Literal["torch", "native"]

NAMESPACE = "mclrec_fast"
BACKENDS = ("auto", "torch", "native")
MINIMUM_TORCH = (2, 13)
REBUILD = 'rebuild with "pip install ." from the sources'
_PACKAGE = Path(__file__).resolve().parent


class BackendFallbackWarning(UserWarning):
    """An operator runs in plain PyTorch although "auto" would have preferred a kernel."""


class _Module:
    """One compiled module: loaded, or the reason why not (text) and what to do about it."""

    def __init__(self, name: str, *, needs_torch: bool = True) -> None:
        self.name = name
        self.needs_torch = needs_torch
        self.module: ModuleType | None = None
        self.reason: str | None = None
        self.remedy: str | None = None

    def load(self) -> None:
        """Import the module or find out why that is impossible."""
        self.reason, self.remedy = self._obstacle()
        if self.reason is not None:
            return
        try:
            self.module = importlib.import_module(f"{__package__}.{self.name}")
        except ImportError as error:
            self.reason = f"{self.name} cannot be loaded: {error}"
            self.remedy = REBUILD

    def _obstacle(self) -> tuple[str | None, str | None]:
        if os.environ.get("MCLREC_FAST_DISABLE_NATIVE", "0") not in ("", "0"):
            return "MCLREC_FAST_DISABLE_NATIVE is set", "unset MCLREC_FAST_DISABLE_NATIVE"
        if self.needs_torch and _torch_version() < MINIMUM_TORCH:
            wanted = ".".join(map(str, MINIMUM_TORCH))
            return f"torch {torch.__version__} is older than {wanted}", "install a newer torch"
        if self.name == "_C_cuda" and torch.version.cuda is None:
            return "this torch is built without CUDA", "install a torch built for CUDA"
        if not self.files():
            return self._why_not_built()
        return None, None

    def files(self) -> list[Path]:
        """The module's files beside this one that this Python can load (normally one or none)."""
        candidates = (_PACKAGE / f"{self.name}{suffix}" for suffix in EXTENSION_SUFFIXES)
        return [path for path in candidates if path.is_file()]

    def _why_not_built(self) -> tuple[str, str]:
        recorded = build_record().get("modules", {}).get(self.name, {}).get("reason")
        if recorded is None:
            return f"{self.name} was never built here", REBUILD
        if "in this version" in recorded:
            return recorded, "use a version that has it"
        if "no CUDA toolkit" in recorded:
            return recorded, f"install CUDA's nvcc and {REBUILD}"
        if "no working C++ compiler" in recorded:
            return recorded, f"install a C++ compiler and {REBUILD}"
        return recorded, f"{REBUILD} (add -v to see the compiler's messages)"


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def build_record() -> dict[str, Any]:
    """What the last build left in _build_info.json; empty when there was none."""
    try:
        record = json.loads((_PACKAGE / "_build_info.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


_cpu = _Module("_C")
_cuda = _Module("_C_cuda")
MODULES = {"_C": _cpu, "_C_cuda": _cuda, "_reader": _Module("_reader", needs_torch=False)}
_announced: set[str] = set()


def isa_problem() -> str | None:
    """What is wrong with MCLREC_FAST_ISA, which the compiled module itself reads leniently."""
    wanted = os.environ.get("MCLREC_FAST_ISA", "")
    if _cpu.module is None or wanted in ("", *_cpu.module.usable_isa()):
        return None
    known = wanted in _cpu.module.build_info()["isa"]
    problem = "cannot run on this CPU" if known else "is not an instruction set compiled here"
    usable = " or ".join(_cpu.module.usable_isa())
    return f"MCLREC_FAST_ISA={wanted} {problem}: use {usable}, or unset it"


def cuda_architectures() -> list[str]:
    """What the CUDA kernels were compiled for, such as ["8.0", "10.0+PTX"]."""
    recorded = build_record().get("modules", {}).get("_C_cuda", {}).get("architectures", [])
    return [str(architecture) for architecture in recorded]


def covers(capability: str, architectures: list[str]) -> bool:
    """Whether a GPU of this compute capability runs code compiled for these architectures.

    Binaries run on the same major version from their minor version on, PTX on everything newer, and
    architecture-specific code ("9.0a") on exactly its own version.
    """
    major, minor = map(int, capability.split("."))
    for architecture in architectures:
        number = architecture.removesuffix("+PTX")
        if number[-1].isalpha():
            if number[:-1] == capability:
                return True
            continue
        its_major, its_minor = map(int, number.split("."))
        if its_major == major and its_minor <= minor:
            return True
        if architecture.endswith("+PTX") and (its_major, its_minor) <= (major, minor):
            return True
    return False


@functools.cache
def _uncovered_gpu() -> str | None:
    """Why the loaded CUDA kernels cannot run on a visible GPU."""
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        if not covers(f"{major}.{minor}", cuda_architectures()):
            compiled = ", ".join(cuda_architectures()) or "nothing known"
            return (
                f"the CUDA kernels are compiled for {compiled}, not for GPU {index} "
                f"(compute capability {major}.{minor}); set TORCH_CUDA_ARCH_LIST={major}.{minor} "
                f"and {REBUILD}, or choose another GPU with CUDA_VISIBLE_DEVICES"
            )
    return None


_MODULES = {"cpu": _cpu, "cuda": _cuda}
_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}


def _type(device: str | torch.device) -> str:
    return device.type if isinstance(device, torch.device) else torch.device(device).type


def available(device: str | torch.device = "cpu") -> bool:
    """Whether the compiled kernels for this device are loaded."""
    module = _MODULES.get(_type(device))
    return module is not None and module.module is not None


def why_not(device: str | torch.device = "cpu") -> str | None:
    """Why the kernels for this device are not loaded, with the remedy; None when they are."""
    module = _MODULES.get(_type(device))
    if module is None:
        return f"there are no kernels for device {_type(device)}: use cpu or cuda"
    if module.reason is not None:
        return f"{module.reason}; {module.remedy}"
    return _uncovered_gpu() if module is _cuda else None


def has_kernel(op: str, device: str | torch.device = "cpu") -> bool:
    """Whether operator `op` (without namespace) has a compiled kernel for this device."""
    return _registered(op, _type(device))


@functools.cache
def _registered(op: str, device_type: str) -> bool:
    key = _DISPATCH_KEYS.get(device_type)
    name = f"{NAMESPACE}::{op}"
    if key is None or not torch._C._dispatch_has_kernel(name):
        return False
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, key))


def backend(requested: str, device: str | torch.device, op: str | None = None) -> Backend:
    """Resolve a backend word for a device, and for one operator where `op` is given.

    Args:
        requested: "auto", "torch" or "native".
        device: Where the tensors live.
        op: Low-level operator name; "native" then also needs its kernel for this device.

    Returns:
        "torch" or "native".

    Raises:
        InputError: The word (or MCLREC_FAST_ISA) is unknown, or "native" was asked for and is not
            available.
    """
    if requested == "torch":
        return "torch"
    source = "backend"
    if requested == "auto":
        requested = os.environ.get("MCLREC_FAST_BACKEND", "") or "auto"
        source = "MCLREC_FAST_BACKEND"
    if requested not in BACKENDS:
        raise InputError(f"{source}={requested!r} is unknown: use auto, torch or native")
    if requested == "torch":
        return "torch"
    if _bad_isa is not None:
        raise InputError(_bad_isa)
    obstacle = why_not(device)
    if obstacle is None and op is not None and not has_kernel(op, device):
        obstacle = f"{op} has no kernel for {_type(device)} in this build; {REBUILD}"
    if obstacle is None:
        return "native"
    if requested == "native":
        raise InputError(f"{source}='native' is not available: {obstacle}")
    _announce(obstacle)
    return "torch"


def _announce(obstacle: str) -> None:
    if obstacle in _announced:
        return
    _announced.add(obstacle)
    warnings.warn(
        f"running in plain PyTorch, which is slower: {obstacle}. "
        "Details: python -m mclrec_fast; silence: backend='torch'",
        BackendFallbackWarning,
        stacklevel=4,
    )


def cpu_model() -> tuple[str, set[str]]:
    """What the system says of this CPU: its name, and its features, none where it says nothing."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                break
    except OSError:
        pass
    return name, flags


def isa() -> str | None:
    """The instruction set the CPU kernels use, such as "avx2"; None without kernels."""
    return None if _cpu.module is None else str(_cpu.module.isa())


def compiled_isa() -> list[str]:
    """Instruction sets the CPU kernels were compiled for, the narrowest first; or nothing."""
    return [] if _cpu.module is None else list(_cpu.module.build_info()["isa"])


def usable_isa() -> list[str]:
    """Those of them that the CPU kernels can be run with here; empty without kernels."""
    return [] if _cpu.module is None else list(_cpu.module.usable_isa())


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Run the CPU kernels with another instruction set (all threads of the process).

    Raises:
        InputError: There are no kernels, or this machine cannot run that set.
    """
    if _cpu.module is None:
        raise InputError(f"instruction sets need the compiled kernels: {why_not()}")
    before = _cpu.module.isa()
    try:
        _cpu.module.select_isa(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    try:
        yield
    finally:
        _cpu.module.select_isa(before)


@contextmanager
def helpers(wanted: bool) -> Iterator[None]:
    """CPU kernels called from this thread take threads of the package's own, not torch's.

    They sleep where torch's spin, so that a machine shared with other programs loses little; but
    between these kernels torch itself must not compute with several threads, which would still be
    spinning while the next kernel wants their cores.

    Args:
        wanted: False changes nothing.
    """
    if not wanted or _cpu.module is None:
        yield
        return
    before = _cpu.module.use_helpers(True)
    try:
        yield
    finally:
        _cpu.module.use_helpers(before)


def fma_peak_gflops(threads: int, seconds: float = 0.05) -> float | None:
    """Register-only float32 multiply-add peak with the instruction set in use.

    Args:
        threads: Threads to run, >= 1.
        seconds: How long, in (0, 60].

    Returns:
        GFLOP/s over all threads; None without the compiled module.
    """
    if _cpu.module is None:
        return None
    return float(_cpu.module.fma_peak_gflops(threads, seconds))


for _module in MODULES.values():
    _module.load()
_fork.watch()
_bad_isa = isa_problem()
