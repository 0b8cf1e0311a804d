"""On which devices a test of this folder runs.

With `cuda` it is marked `gpu` and skipped where there is none; `python -m pytest -m gpu` runs these
alone. With `cpu` the same test meets the CPU's kernels, so that its body is known to work where
nothing else can run it.
"""

import pytest

from mclrec_fast import _native

CPU = pytest.param(
    "cpu", marks=pytest.mark.skipif(not _native.available(), reason=f"{_native.why_not()}")
)
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
on_both = pytest.mark.parametrize("device", [CPU, CUDA])
