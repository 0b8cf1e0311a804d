"""setup.py: a build that fails goes on with a boxed warning, and leaves a truthful record.

Builds nothing: the compiler is /bin/false, on a copy of the files that matter.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    package = tmp_path / "mclrec_fast"
    package.mkdir()
    shutil.copy(ROOT / "mclrec_fast/__init__.py", package)
    (tmp_path / "README.md").touch()
    (package / "_C.abi3.so").write_text("an older build")
    return tmp_path


def build(tree: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("MCLREC_FAST_")}
    environment = {**cleared, "CXX": "/bin/false", "CC": "/bin/false", **variables}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/bin/false").exists(), reason="needs /bin/false")
def test_a_failing_compiler_warns_and_goes_on(tree: Path) -> None:
    done = build(tree)
    assert done.returncode == 0, done.stderr
    assert "| mclrec_fast: some compiled parts could not be built." in done.stderr
    assert "| _C: no working C++ compiler (/bin/false; install g++ or clang++" in done.stderr
    record = json.loads((tree / "mclrec_fast/_build_info.json").read_text())
    assert record["modules"]["_C"]["built"] is False
    assert "no working C++ compiler" in record["modules"]["_C"]["reason"]
    # The module of an older build would not be what the record says.
    assert not (tree / "mclrec_fast/_C.abi3.so").exists()


@pytest.mark.skipif(not Path("/bin/false").exists(), reason="needs /bin/false")
def test_required_kernels_are_an_error(tree: Path) -> None:
    done = build(tree, MCLREC_FAST_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "MCLREC_FAST_REQUIRE_NATIVE is set, but _C: no working C++ compiler" in done.stderr
    assert (tree / "mclrec_fast/_C.abi3.so").read_text() == "an older build"
