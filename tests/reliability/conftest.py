"""What the tests of reliability share: a server of commands, and undisturbed runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import Commands, why_not
from .recovery import Training, undisturbed


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    if why_not():
        pytest.skip(why_not())
    with Commands() as started:
        yield started


@pytest.fixture(scope="session")
def sasrec(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return undisturbed(commands, tmp_path_factory.mktemp("sasrec"), "--model", "sasrec")


@pytest.fixture(scope="session")
def finished(sasrec: Training) -> Path:
    """A finished run; nobody writes there."""
    return sasrec.straight
