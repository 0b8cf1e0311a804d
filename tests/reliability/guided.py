"""Fuzzing guided by coverage: the loaders with atheris, the C++ reader with libFuzzer.

Where one of the two is not installed, `why_not` says so. `python -m tests.reliability.guided LOADER
SECONDS` is the process that atheris takes over.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

READER = "the C++ reader"
SOURCE = Path(__file__).parents[1] / "cpp" / "reader_fuzzer.cpp"
LIMITS = ["-print_final_stats=1", "-seed=1", "-rss_limit_mb=2000"]


def clang() -> str | None:
    """A clang that may have libFuzzer."""
    names = ["clang++", *(f"clang++-{version}" for version in range(25, 13, -1))]
    return next((found for name in names if (found := shutil.which(name))), None)


def why_not(name: str) -> str:
    """Why something cannot be fuzzed here; empty where it can."""
    if name == READER:
        return "" if clang() else "needs clang with libFuzzer"
    return "" if importlib.util.find_spec("atheris") else "needs atheris"


def guided(name: str, seconds: int, folder: Path) -> int:
    """Fuzzes one loader, or the reader, for so long; how many inputs were tried.

    Raises:
        AssertionError: an input was found that it does not stand; it lies in `folder`.
    """
    if name == READER:
        program = str(folder / "reader_fuzzer")
        checks = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
        options = ["-std=c++20", "-O1", "-g", "-pthread", "-Wno-deprecated-declarations"]
        build = [str(clang()), *options, *checks, str(SOURCE), "-o", program]
        subprocess.run(build, check=True)
        argv = [program, f"-max_total_time={seconds}", "-max_len=1000", *LIMITS]
        argv.append(f"-artifact_prefix={folder}/")
    else:
        argv = [sys.executable, "-m", "tests.reliability.guided", name, str(seconds)]
    # By way of a shell that forks: a process begins with its parent's peak of memory, and what ran
    # before may have left this one above the limit.
    argv = ["sh", "-c", '"$@"; exit $?', "sh", *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 1200)
    assert done.returncode == 0, f"{name}: {done.stderr[-4000:]}"
    found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def main(name: str, seconds: str) -> None:
    """Hands this process over to atheris, which ends it."""
    import atheris

    with atheris.instrument_imports(include=["mclrec_fast"]):
        from .loaders import attempt, loaders

    folder = Path(tempfile.mkdtemp(prefix="mclrec-guided-"))
    loader = loaders(folder)[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(loader.seeds):
        (corpus / str(number)).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=70000", f"-artifact_prefix={folder}/"]
    atheris.Setup(
        ["loaders", *options, *LIMITS, str(corpus)],
        lambda content: attempt(loader, folder, content),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
