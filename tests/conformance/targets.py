"""On what the suite runs an op: each instruction set that the CPU module says it has, and CUDA.

What was compiled but cannot run here is skipped, visibly. A new instruction set needs no line here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from mclrec_fast import _native


class Target(NamedTuple):
    """A backend on a device; ``isa`` is the CPU's instruction set."""

    backend: str
    device: str = "cpu"
    isa: str | None = None

    @property
    def fused(self) -> bool:
        """Whether its multiply-adds round once. Portable code does what its compiler does."""
        return self.isa != "portable"

    @contextmanager
    def selected(self) -> Iterator["Target"]:
        """Within it the kernels use this instruction set."""
        if self.isa is None:
            yield self
            return
        with _native.use_isa(self.isa):
            yield self


def _cpu() -> list[Any]:
    module = _native._cpu.module
    if module is None:
        reason = pytest.mark.skip(reason=f"no kernels: {_native.why_not()}")
        return [pytest.param(Target("native"), id="native", marks=reason)]
    cannot = pytest.mark.skip(reason="compiled, but this CPU cannot run it")
    usable = _native.usable_isa()
    return [
        pytest.param(Target("native", "cpu", isa), id=isa, marks=[] if isa in usable else [cannot])
        for isa in dict.fromkeys((*module.build_info()["isa"], *usable))
    ]


CPU = _cpu()
CUDA = pytest.param(Target("native", "cuda"), id="cuda", marks=pytest.mark.gpu)
TORCH = pytest.param(Target("torch"), id="torch")
TORCH_CUDA = pytest.param(Target("torch", "cuda"), id="torch-cuda", marks=pytest.mark.gpu)
