"""What the tests of single ops are run with: every instruction set, and plain torch."""

from collections.abc import Iterator

import pytest

from ..conformance.targets import CPU, TORCH


@pytest.fixture(params=CPU)
def kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernels with each instruction set."""
    with request.param.selected():
        yield


@pytest.fixture(params=[TORCH, *CPU])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Plain torch, and the kernels with each instruction set."""
    with request.param.selected():
        yield request.param.backend
