"""In-tree build backend: setuptools, plus the search for the torch to build against.

pip builds in an isolated environment that cannot see what is installed. A plain requirement on
torch would then fetch the newest one whatever the user has, and could build against a different one
from the one that runs. So: look for torch in the environment being installed into; build against it
when it is new enough; otherwise, and only where there is a compiler, ask for one pinned version.
The kernels use torch's stable ABI, so that build runs on every newer torch too.
Tools that hide the target environment (uv, python -m build) get the pinned version.
"""

import importlib.metadata
import os
import re
import shlex
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401  (hooks passed on unchanged)
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

MINIMUM_TORCH = (2, 13)
PINNED_TORCH = "torch==2.13.0"


def target_directories() -> list[str]:
    """Site directories of the environment being installed into, in import order."""
    directories = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    config = Path(sys.prefix) / "pyvenv.cfg"
    sees_system = True
    if sys.prefix != sys.base_prefix:
        text = config.read_text() if config.is_file() else ""
        sees_system = bool(re.search(r"include-system-site-packages\s*=\s*true", text, re.I))
    if sees_system:
        directories.append(site.getusersitepackages())
        base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
        directories += [sysconfig.get_path(key, vars=base) for key in ("purelib", "platlib")]
    return list(dict.fromkeys(directories))


def installed_torch(directories: list[str]) -> tuple[str, str] | None:
    """(directory, version) of the first torch that can be built against, or None."""
    for directory in directories:
        for found in importlib.metadata.distributions(name="torch", path=[directory]):
            numbers = re.match(r"(\d+)\.(\d+)", found.version or "")
            headers = Path(directory) / "torch/include/torch/csrc/stable/library.h"
            if numbers and tuple(map(int, numbers.groups())) >= MINIMUM_TORCH and headers.is_file():
                return directory, found.version
    return None


def has_compiler() -> bool:
    """Whether there is a C++ compiler to build the kernels with."""
    command = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    return shutil.which(command[0]) is not None


@contextmanager
def _torch_on_path() -> Iterator[None]:
    """Import the target's torch, without leaving its site directory on the path."""
    found = installed_torch(target_directories())
    if found is None or "torch" in sys.modules:
        yield
        return
    directory = found[0]
    sys.path.append(directory)
    try:
        import torch.utils.cpp_extension  # noqa: F401  (setup.py imports it again, from here)
    except Exception as error:
        print(f"torch in {directory} cannot be imported: {error}", file=sys.stderr)
    finally:
        sys.path.remove(directory)
    yield


def _extra_requirements() -> list[str]:
    if installed_torch(target_directories()) is None and has_compiler():
        return [PINNED_TORCH]
    return []


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """PEP 517 hook."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_extra_requirements()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """PEP 660 hook."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_extra_requirements()]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata: Any = None) -> str:
    """PEP 517 hook."""
    # A library folder of an earlier build would carry its deleted files into this wheel; compiled
    # objects live in build/temp* and stay.
    for stale in Path("build").glob("lib*"):
        shutil.rmtree(stale, ignore_errors=True)
    with _torch_on_path():
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata: Any = None) -> str:
    """PEP 660 hook."""
    with _torch_on_path():
        return str(build_meta.build_editable(wheel_directory, config_settings, metadata))
