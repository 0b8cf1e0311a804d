"""parallel_tasks over torch's threads and our own: a C++ program, as ops only show results."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("c++")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None or shutil.which(COMPILER) is None:
        pytest.skip("no C++ compiler")
    output = tmp_path_factory.mktemp("parallel") / "parallel_test"
    libraries = cpp_extension.library_paths()
    command = [COMPILER, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    command += ["-DTORCH_TARGET_VERSION=0x020d000000000000"]
    command += [flag for path in cpp_extension.include_paths() for flag in ("-isystem", path)]
    sources = ("tests/cpp/parallel_test.cpp", "csrc/ops_cpu/parallel.cpp")
    command += [str(ROOT / source) for source in (*sources, "csrc/cpu/thread_pool.cpp")]
    command += ["-o", str(output), "-Wl,--no-as-needed"]
    command += [flag for path in libraries for flag in (f"-L{path}", f"-Wl,-rpath,{path}")]
    subprocess.run([*command, "-ltorch", "-ltorch_cpu", "-lc10"], check=True)
    return output


@pytest.mark.parametrize("threads", [1, 2])
def test_parallel_tasks(program: Path, threads: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("the system gives no more threads") == 1
    if threads <= (os.cpu_count() or 1):  # torch takes no more threads than there are cores
        assert done.stdout.startswith(f"{threads} workers")
