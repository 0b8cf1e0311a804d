"""Builds the emulated CUDA kernels as shared libraries for the tests, with any C++ compiler.

Not part of the package: nothing here needs nvcc or a GPU, and nothing built here is installed.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EMULATION = Path(__file__).resolve().parent / "emulation"
CACHE = ROOT / "build" / "cuda_emulation"

CSRC = ROOT / "csrc"
RUNTIME = (EMULATION / "cuda_emulation.cpp", EMULATION / "fiber.cpp")
INCLUDES = (f"-I{EMULATION}", f"-I{CSRC / 'cuda'}")
# -march=native: kernels are built for this machine, as the emulation is only for its tests; no
# contraction, so that an FMA is exactly what the source says.
FLAGS: tuple[str, ...] = ("-std=c++17", "-O2", "-g1", "-fPIC", "-Wall", "-Wextra", "-march=native")
FLAGS += ("-Wno-unknown-pragmas",)  # `#pragma unroll` is for nvcc
FLAGS += ("-ffp-contract=off", "-DMCLREC_CUDA_EMULATION")
ADDRESS_SANITIZER = ("-fsanitize=address", "-fno-omit-frame-pointer", "-O1")


def sanitizers() -> tuple[str, ...]:
    """Flags for the sanitizers that MCLREC_FAST_SANITIZE names, as setup.py has them.

    For the kernels of the package. The emulation's own tests choose for themselves: a guard zone
    and AddressSanitizer cannot both be first to find a mistake.
    """
    names = os.environ.get("MCLREC_FAST_SANITIZE", "")
    if not names:
        return ()
    recover = ("-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1")
    return (f"-fsanitize={names}", *recover)


def compiler() -> str | None:
    """The C++ compiler ($CXX, else g++, c++ or clang++), or None."""
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def shared_library(
    name: str, sources: Sequence[Path], flags: Sequence[str] = (), link: Sequence[str] = ()
) -> Path:
    """Compile and link ``sources`` with the emulation's runtime; what is up to date is reused."""
    command = compiler()
    assert command is not None, "the caller checks for a compiler"
    flags = (*FLAGS, *flags, *INCLUDES)
    digest = hashlib.sha256(repr((command, flags, _machine())).encode())
    folder = CACHE / f"{name}-{digest.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            everything = [*sources, *RUNTIME]
            objects = list(
                pool.map(lambda source: _compile(command, flags, source, folder), everything)
            )
        for path in objects:
            digest.update(path.read_bytes())
        library = folder / f"{name}-{digest.hexdigest()[:12]}.so"
        if not library.exists():
            for old in folder.glob("*.so"):
                old.unlink()
            unfinished = library.with_suffix(f".{os.getpid()}")
            _run([command, *flags, "-shared", *map(str, objects), *link, "-o", str(unfinished)])
            unfinished.replace(library)
    return library


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: test workers that want the same library compile it once."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(command: str, flags: Sequence[str], source: Path, folder: Path) -> Path:
    """The object file of a source, compiled unless it is newer than all it depends on."""
    target = folder / f"{source.name}.o"
    dependencies = target.with_suffix(".d")
    if target.exists() and dependencies.exists():
        named = dependencies.read_text().replace("\\\n", " ").split(":", 1)[1].split()
        built = target.stat().st_mtime
        if all(Path(path).exists() and Path(path).stat().st_mtime < built for path in named):
            return target
    unfinished = target.with_suffix(f".{os.getpid()}")
    arguments = ["-x", "c++", "-c", str(source), "-o", str(unfinished)]
    _run([command, *flags, "-MMD", "-MF", str(dependencies), *arguments])
    unfinished.replace(target)
    return target


def run_with_address_sanitizer(command: list[str]) -> "subprocess.CompletedProcess[str] | None":
    """Run a command with the sanitizer's runtime preloaded; None where there is no such runtime.

    A Python that was not built with AddressSanitizer can load such a library only this way.
    """
    name = compiler()
    assert name is not None, "the caller checks for a compiler"
    runtime = subprocess.run(
        [name, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(runtime):
        return None
    environment = {
        **os.environ,
        "LD_PRELOAD": os.path.realpath(runtime),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _run(command: Sequence[str]) -> None:
    # A sanitizer's runtime is for this process, not for the compiler, which it would slow down.
    own = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    if done.returncode != 0 or done.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


@functools.cache
def _machine() -> str:
    """What -march=native may depend on."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    return next((line for line in text.splitlines() if line.startswith("flags")), "")
