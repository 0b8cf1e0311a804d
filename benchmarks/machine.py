"""The machine of a measurement: how busy it was, and its own clock, the multiply-add peak."""

import os
import sys

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


def fma_peak(threads: int) -> float | None:
    """Float32 multiply-add peak in GFLOP/s; None where the extension is not built."""
    return _native.fma_peak_gflops(threads, 0.2)
