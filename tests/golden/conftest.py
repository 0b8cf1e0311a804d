"""What every golden test is run with: plain torch, and each instruction set of the kernels."""

from collections.abc import Iterator

import pytest

from mclrec_fast import _native


@pytest.fixture(params=["torch", *(_native.compiled_isa() or ["no kernels"])])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend word, with the instruction set of the kernels selected."""
    if request.param == "torch":
        yield "torch"
        return
    if not _native.available() or request.param not in _native.usable_isa():
        pytest.skip(f"{request.param} cannot run here")
    with _native.use_isa(request.param):
        yield "native"
