"""On which devices a test of this folder runs.

With `cuda` it is marked `gpu` and skipped where there is none; `python -m pytest -m gpu` runs these
alone. With `cpu` the same test meets the CPU's kernels, so that its body is known to work where
nothing else can run it; as tests/ops covers those kernels, that is done for a few cases only.
"""

from collections.abc import Collection, Iterable

import pytest

from mclrec_fast import _native

CPU = pytest.param(
    "cpu", marks=pytest.mark.skipif(not _native.available(), reason=f"{_native.why_not()}")
)
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
on_both = pytest.mark.parametrize("device", [CPU, CUDA])


def on_devices(cases: Iterable[str], *, cpu: Collection[str]) -> pytest.MarkDecorator:
    """Parameters `device` and `name`: every case on CUDA, those of `cpu` on the CPU as well."""
    cases = list(cases)
    unknown = set(cpu) - set(cases)
    assert not unknown, f"no such cases: {unknown}"
    return pytest.mark.parametrize(
        ("device", "name"),
        [
            pytest.param(*param.values, name, marks=param.marks, id=f"{param.values[0]}-{name}")
            for param, names in ((CPU, [n for n in cases if n in cpu]), (CUDA, cases))
            for name in names
        ],
    )
