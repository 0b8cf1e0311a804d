"""The in-tree build backend: which torch it finds, what it asks for, what stays out of a wheel."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_build_backend", ROOT / "_build_backend.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.build_meta, "get_requires_for_build_wheel", lambda settings: ["w"])
    monkeypatch.setattr(
        module.build_meta, "get_requires_for_build_editable", lambda settings: ["e"]
    )
    return module


def site(folder: Path, version: str, *, headers: bool = True) -> str:
    """A site directory with a torch that has only what the search looks at."""
    information = folder / f"torch-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
    )
    if headers:
        header = folder / "torch/include/torch/csrc/stable/library.h"
        header.parent.mkdir(parents=True)
        header.touch()
    return str(folder)


@pytest.mark.parametrize(
    ("version", "good"),
    [("2.13.0+cpu", True), ("2.14.1", True), ("3.0.0a0+git1234", True), ("2.12.1", False)],
)
def test_new_enough_torch_is_found(
    backend: ModuleType, tmp_path: Path, version: str, good: bool
) -> None:
    directory = site(tmp_path, version)
    expected = (directory, version) if good else None
    assert backend.installed_torch([str(tmp_path / "none"), directory]) == expected


def test_a_torch_without_headers_does_not_count(backend: ModuleType, tmp_path: Path) -> None:
    bare = site(tmp_path / "bare", "2.13.0", headers=False)
    whole = site(tmp_path / "whole", "2.14.0")
    assert backend.installed_torch([bare]) is None
    assert backend.installed_torch([bare, whole]) == (whole, "2.14.0")


@pytest.mark.parametrize("hook", ["wheel", "editable"])
@pytest.mark.parametrize(
    ("version", "compiler", "extra"),
    [
        ("2.14.1", True, []),
        ("2.12.0", True, ["torch==2.13.0"]),
        (None, True, ["torch==2.13.0"]),
        (None, False, []),
    ],
    ids=["torch there", "torch too old", "no torch", "no torch, no compiler"],
)
def test_what_is_asked_for(
    backend: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    hook: str,
    version: str | None,
    compiler: bool,
    extra: list[str],
) -> None:
    directory = site(tmp_path, version) if version else str(tmp_path)
    monkeypatch.setattr(backend, "target_directories", lambda: [directory])
    monkeypatch.setattr(backend, "has_compiler", lambda: compiler)
    asked = getattr(backend, f"get_requires_for_build_{hook}")()
    assert asked == [hook[0], *extra]


def test_compiler_search(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not backend.has_compiler()
    program = tmp_path / "my-c++"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", "my-c++ -m64")
    assert backend.has_compiler()


def test_target_directories_follow_the_virtual_environment(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = backend.sysconfig.get_path("purelib")
    base = str(tmp_path / "base")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "base_prefix", base)
    monkeypatch.setattr(sys, "base_exec_prefix", base)
    (tmp_path / "venv").mkdir()
    config = tmp_path / "venv/pyvenv.cfg"
    config.write_text("home = x\ninclude-system-site-packages = false\n")
    assert not any(path.startswith(base) for path in backend.target_directories())
    config.write_text("home = x\ninclude-system-site-packages = true\n")
    directories = backend.target_directories()
    assert directories[0] == own
    assert any(path.startswith(base) for path in directories)


def test_nothing_stale_enters_a_wheel(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stale = tmp_path / "build/lib.linux/mclrec_fast/gone.py"
    objects = tmp_path / "build/temp.linux/kept.o"
    for path in (stale, objects):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    seen = []

    def build(directory: str, settings: object, metadata: object) -> str:
        seen.append((stale.exists(), objects.exists()))
        return "name.whl"

    monkeypatch.setattr(backend.build_meta, "build_wheel", build)
    assert backend.build_wheel("out") == "name.whl"
    assert seen == [(False, True)]


def test_a_broken_torch_is_reported_and_leaves_no_trace(tmp_path: Path) -> None:
    directory = site(tmp_path, "2.14.1")
    (tmp_path / "torch/__init__.py").write_text("raise ImportError('half a torch')\n")
    code = f"""
import sys
import _build_backend as backend
backend.target_directories = lambda: [{directory!r}]
sys.path = [path for path in sys.path if "site-packages" not in path]  # as an isolated build does
before = list(sys.path)
with backend._torch_on_path():
    print(sys.path == before, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"
    assert "half a torch" in done.stderr
