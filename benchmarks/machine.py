"""The machine of a measurement: how busy it was, and its own clock, the multiply-add peak."""

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mclrec_fast import _native

IDLE = 0.5
"""Load average up to which a machine counts as idle."""


def load_average() -> float:
    """Processes that wanted to run, over the last minute."""
    return os.getloadavg()[0]


def warn_if_busy(load: float) -> None:
    """Says on stderr that timings of a busy machine mean nothing."""
    if load > IDLE:
        print(
            f"warning: load average {load:.2f}: the machine is not idle, these timings are not "
            "to be trusted (two-thread timings may be off by 10x and more)",
            file=sys.stderr,
        )


def fma_peak(threads: int, seconds: float = 0.2) -> float | None:
    """Float32 multiply-add peak in GFLOP/s; None where the extension is not built."""
    return _native.fma_peak_gflops(threads, seconds)


def stamp(threads: int) -> dict[str, Any]:
    """What a figure must be read with: the machine, its load and its clock, the versions."""
    return {
        "cpu_name": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "threads": threads,
        "load_average": load_average(),
        "fma_peak_gflops": fma_peak(threads),
        "isa": _native.isa(),
        "gpu_name": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_version": torch.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")


def wait(device: str) -> None:
    """Until the device has done all it was given; a CPU has."""
    if device == "cuda":
        torch.cuda.synchronize()


def free_memory_gb(device: str = "cpu") -> float | None:
    """Memory that can be had without swapping, GB; None where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 1e9
    kilobytes = _kilobytes("/proc/meminfo", "MemAvailable")
    return None if kilobytes is None else kilobytes / 1e6


def added_memory(run: Callable[[], object], device: str = "cpu") -> float | None:
    """Highest memory during one call above the one before it, MB; None if unknown.

    Of a GPU: what torch allocated on it. Otherwise the process's resident memory.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - start) / 1e6
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    except OSError:
        run()
        return None
    before = _kilobytes("/proc/self/status", "VmRSS")
    run()
    highest = _kilobytes("/proc/self/status", "VmHWM")
    return None if before is None or highest is None else max(0.0, (highest - before) / 1000)


def _kilobytes(file: str, name: str) -> int | None:
    try:
        for line in Path(file).read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    except OSError:
        pass
    return None
