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
    assert record["commit"] is None  # no checkout
    # The module of an older build would not be what the record says.
    assert not (tree / "mclrec_fast/_C.abi3.so").exists()


@pytest.mark.skipif(not Path("/bin/false").exists(), reason="needs /bin/false")
def test_required_kernels_are_an_error(tree: Path) -> None:
    done = build(tree, MCLREC_FAST_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "MCLREC_FAST_REQUIRE_NATIVE is set, but _C: no working C++ compiler" in done.stderr
    assert (tree / "mclrec_fast/_C.abi3.so").read_text() == "an older build"


@pytest.mark.parametrize(
    ("architectures", "flags"),
    [
        (["8.0"], ["80,code=sm_80"]),
        (["9.0+PTX"], ["90,code=sm_90", "90,code=compute_90"]),
        (
            ["8.0+PTX", "9.0", "10.0"],
            ["80,code=sm_80", "80,code=compute_80", "80,code=sm_90", "80,code=sm_100"],
        ),
        (["10.0", "9.0a", "8.6"], ["86,code=sm_100", "90a,code=sm_90a", "86,code=sm_86"]),
        (["9.0a+PTX"], ["90a,code=sm_90a", "90a,code=compute_90a"]),
    ],
)
def test_binaries_come_from_one_ptx(architectures: list[str], flags: list[str]) -> None:
    program = (
        "import setuptools; setuptools.setup = lambda **_: None; import setup; "
        f"print(*setup.architecture_flags({architectures}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "MCLREC_FAST_NO_CUDA": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"-gencode=arch=compute_{flag}" for flag in flags]


@pytest.mark.skipif(not Path("/bin/false").exists(), reason="needs /bin/false")
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_record_names_the_commit(tree: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", *who, *words], cwd=tree, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def recorded() -> str:
        assert build(tree).returncode == 0
        record = json.loads((tree / "mclrec_fast/_build_info.json").read_text())
        return str(record["commit"])

    git("init", "-q")
    git("add", "csrc", "setup.py")
    git("commit", "-q", "-m", "sources")
    assert recorded() == git("rev-parse", "HEAD")[:12]
    with (tree / "setup.py").open("a") as file:
        file.write("# changed\n")
    assert recorded() == git("rev-parse", "HEAD")[:12] + "+"
