"""What every test of an op is run with: each instruction set its kernels were compiled for."""

from collections.abc import Iterator

import pytest

from mclrec_fast import _native


@pytest.fixture(params=_native.compiled_isa() or ["no kernels"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The instruction set the kernels use in this test."""
    if not _native.available() or request.param not in _native.usable_isa():
        pytest.skip(f"{request.param} cannot run here")
    with _native.use_isa(request.param):
        yield request.param
