"""The vector functions of csrc/cpu/vector_math.inl keep the errors they state, in every ISA."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "cpp" / "vector_math_test.cpp"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_vector_math(tmp_path: Path) -> None:
    program = tmp_path / "vector_math_test"
    command = [str(COMPILER), "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, str(SOURCE), "-o", str(program)], check=True)
    result = subprocess.run([str(program)], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
