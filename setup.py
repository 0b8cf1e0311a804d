"""Builds the compiled modules; everything else about the package is in pyproject.toml.

To add an operator `foo`, only add files (the sources are globbed):
    csrc/shared/foo.h                 what the kernels are given, on any device
    csrc/cpu/foo_cpu.h, foo_cpu.cpp   the kernel: raw pointers, no torch, threads by cpu/parallel.h
    csrc/cuda/foo_kernel.cuh, foo_cuda.h, foo_cuda.cu   the same for CUDA
    csrc/ops/foo.cpp                  checks, allocation, the call: once for both (ops/device.h)
    mclrec_fast/ops/foo.py            schema, fake kernel, autograd, the public function
    mclrec_fast/ops/torch/foo.py      the same in plain torch;  tests/ops/test_foo.py
then `python setup.py build_ext --inplace` (needs torch, ninja and pybind11 in the environment).

A module that cannot be built never stops the installation: a boxed warning says what is missing,
and _build_info.json keeps the reason for `python -m mclrec_fast`. Environment:
    MCLREC_FAST_REQUIRE_NATIVE=1   a part that cannot be built is an error (CUDA: where nvcc is)
    MAX_JOBS                       compilers at a time (default: all cores)
    CUDA_HOME, TORCH_CUDA_ARCH_LIST   where CUDA is, and the architectures to build for
    MCLREC_FAST_NO_CUDA=1          leave the CUDA kernels out even where nvcc is found
    MCLREC_FAST_WERROR=1           warnings of the C++ compiler are errors
    MCLREC_FAST_SANITIZE=address,undefined   CPU modules with these sanitizers of g++ or clang++;
                                   they load only under the sanitizer's runtime: .ci/sanitize
"""

import glob
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext as plain_build_ext

try:
    import torch
    from torch.utils import cpp_extension

    TORCH_PROBLEM = None
    BuildBase: Any = cpp_extension.BuildExtension
except Exception as error:  # a broken torch must not break the installation
    TORCH_PROBLEM = f"torch could not be imported for the build ({type(error).__name__}: {error})"
    BuildBase = plain_build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "mclrec_fast"
CXX_FLAGS = ["-std=c++20", "-O3", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread"]
if os.environ.get("MCLREC_FAST_WERROR", "0") not in ("", "0"):
    CXX_FLAGS.append("-Werror")
SANITIZERS = os.environ.get("MCLREC_FAST_SANITIZE", "")
if SANITIZERS:  # behind the others, which they override: optimised code that still names its lines
    CXX_FLAGS += [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all"]
    CXX_FLAGS += ["-fno-omit-frame-pointer", "-g1", "-O1"]
LINK_FLAGS = [f"-fsanitize={SANITIZERS}"] if SANITIZERS else []
# The oldest torch whose stable ABI the kernels use.
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020d000000000000"
# Binaries run on the minor versions above them; the PTX covers newer architectures.
CUDA_ARCHITECTURES = ["8.0", "9.0", "10.0"]


def sources(*patterns: str) -> list[str]:
    """Files below csrc/ that match, relative to the root, sorted."""
    os.chdir(ROOT)
    found = (glob.glob(f"csrc/{pattern}", recursive=True) for pattern in patterns)
    return sorted(path for paths in found for path in paths)


def headers() -> list[str]:
    """Every file whose change must rebuild a module."""
    return sources("**/*.h", "**/*.cuh", "**/*.inl")


def cuda_home() -> Path | None:
    """The CUDA toolkit that really holds the headers (nvcc on the path may be a wrapper)."""
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    nvcc = shutil.which("nvcc")
    if nvcc:
        # A dry run names the toolkit even through a wrapper script.
        dry = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True)
        top = re.search(rb"^#\$ TOP=(.+)$", dry.stderr, re.M)
        candidates += [top.group(1).decode().strip() if top else None]
        candidates += [str(Path(nvcc).resolve().parent.parent), "/usr/local/cuda"]
    for candidate in candidates:
        if candidate is None:
            continue
        home = Path(candidate).resolve()
        if (home / "include/cuda_runtime.h").is_file() and (home / "bin/nvcc").is_file():
            return home
    return None


def cuda_architectures(home: Path) -> list[str]:
    """The architectures to build for: the default ones that this nvcc knows, the first with PTX."""
    wanted = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if wanted and wanted != "native":
        return wanted.replace(" ", ";").split(";")
    known = subprocess.run(
        [home / "bin/nvcc", "--list-gpu-arch"], capture_output=True, text=True
    ).stdout
    usable = [a for a in CUDA_ARCHITECTURES if f"compute_{a.replace('.', '')}\n" in known + "\n"]
    return [usable[0] + "+PTX", *usable[1:]] if usable else ["8.0+PTX"]


def architecture_flags(architectures: list[str]) -> list[str]:
    """The nvcc flags for a list such as ["8.0", "10.0+PTX"].

    All binaries are assembled from one PTX, that of the oldest: the kernels use nothing newer, the
    PTX for 9.0 is the same to the letter, and that for 10.0 takes most of a build's time.
    """
    numbers = [a.removesuffix("+PTX").replace(".", "") for a in architectures]
    oldest = min((n for n in numbers if n.isdigit()), key=int, default="")
    flags = []
    for architecture, number in zip(architectures, numbers, strict=True):
        ptx = oldest if number.isdigit() else number  # "90a" is made for itself alone
        flags.append(f"-gencode=arch=compute_{ptx},code=sm_{number}")
        if architecture.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{ptx},code=compute_{ptx}")
    return flags


def one_line(error: Exception) -> str:
    """The first line of an error, or its kind where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def commit() -> str | None:
    """The commit that the sources are of, with a + where they differ; None outside a checkout."""
    if not (ROOT / ".git").exists():  # git would ask the folders above
        return None
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def missing_compiler() -> str | None:
    """What to say where there is no working C++ compiler."""
    command = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    try:
        subprocess.run([command[0], "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"no working C++ compiler ({command[0]}; install g++ or clang++, or set CXX)"
    return None


def torch_extension(name: str, files: list[str], **extra: Any) -> Extension:
    """A module of kernels over torch's stable ABI (no libtorch_python, any Python from 3.11)."""
    include = [flag for path in cpp_extension.include_paths() for flag in ("-isystem", path)]
    cxx = [*CXX_FLAGS, TORCH_TARGET, *include, *extra.pop("cxx", [])]
    nvcc = ["-std=c++20", "-O3", TORCH_TARGET, *extra.pop("nvcc", [])]
    return Extension(
        f"{PACKAGE}.{name}",
        files,
        language="c++",
        depends=headers(),
        library_dirs=[*cpp_extension.library_paths(), *extra.pop("library_dirs", [])],
        libraries=["torch_cpu", *extra.pop("libraries", [])],
        extra_compile_args={"cxx": cxx, "nvcc": nvcc},
        extra_link_args=["-pthread", *LINK_FLAGS],
        py_limited_api=True,
    )


def cpu_extension() -> Extension | str:
    """The CPU kernels, or why they cannot be built."""
    if TORCH_PROBLEM:  # without a compiler torch is not even asked for
        return missing_compiler() or TORCH_PROBLEM
    return torch_extension("_C", sources("cpu/*.cpp", "ops/*.cpp", "ops_cpu/*.cpp"))


def cuda_extension() -> Extension | str:
    """The CUDA kernels, or why they cannot be built."""
    files = sources("cuda/*.cu", "ops/*.cpp", "ops_cuda/*.cpp")
    if not any(file.endswith(".cu") for file in files):
        return "there are no CUDA kernels in this version"
    if os.environ.get("MCLREC_FAST_NO_CUDA", "0") not in ("", "0"):
        return "MCLREC_FAST_NO_CUDA was set"
    if TORCH_PROBLEM:  # without a compiler torch is not even asked for
        return missing_compiler() or TORCH_PROBLEM
    home = cuda_home()
    if home is None:
        return "no CUDA toolkit was found (nvcc on PATH, or CUDA_HOME)"
    cpp_extension.CUDA_HOME = str(home)
    library = next((str(home / d) for d in ("lib64", "lib") if (home / d).is_dir()), str(home))
    return torch_extension(
        "_C_cuda",
        files,
        cxx=["-DMCLREC_CUDA", "-isystem", str(home / "include")],
        nvcc=architecture_flags(cuda_architectures(home)),
        library_dirs=[library],
        libraries=["cudart"],
    )


def reader_extension() -> Extension | str:
    """The log reader (pybind11, no torch), or why it cannot be built."""
    files = sources("reader.cpp")
    if not files:
        return "there is no compiled reader in this version"
    try:
        import pybind11
    except ImportError:
        return "pybind11 is not installed"
    include = ["-isystem", pybind11.get_include()]
    return Extension(
        f"{PACKAGE}._reader",
        files,
        language="c++",
        depends=headers(),
        extra_compile_args={"cxx": CXX_FLAGS + include, "nvcc": []},
        extra_link_args=LINK_FLAGS,
    )


class BuildNative(BuildBase):
    """Builds each module on its own, goes on without those that fail, and keeps the reasons."""

    def finalize_options(self) -> None:
        """Keep sanitized objects and modules out of the directories of the normal ones."""
        super().finalize_options()
        if SANITIZERS:
            self.build_temp += "-sanitize"
            self.build_lib += "-sanitize"

    def run(self) -> None:
        """Build, then leave the modules and the record beside the sources as well.

        Python started at the repository root imports the package from there, not the installed one.
        """
        self.reasons: dict[str, str] = {}
        super().run()
        outputs = Path(self.build_lib) / PACKAGE if not self.inplace else ROOT / PACKAGE
        record = self._record()
        for folder in {outputs, ROOT / PACKAGE}:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(folder / "_build_info.json", record.encode())
            for name in MODULES:
                self._place(name, folder)

    def build_extensions(self) -> None:
        """Build every module by itself."""
        os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        extensions = list(self.distribution.ext_modules or [])
        build_temp: str = getattr(self, "build_temp")  # noqa: B009
        for extension in extensions:
            name = extension.name.rpartition(".")[2]
            self.build_temp = os.path.join(build_temp, name)  # csrc/ops has an object in each
            self._forget_old_objects(extension)
            if TORCH_PROBLEM:  # the plain build command knows no kinds of flags
                extension.extra_compile_args = extension.extra_compile_args["cxx"]
            self.extensions = [extension]
            try:
                super().build_extensions()
            except Exception as error:
                extension.optional = True  # nothing to copy for --inplace
                self.reasons[name] = missing_compiler() or f"compiling failed: {one_line(error)}"
        self.extensions, self.build_temp = extensions, build_temp
        for name, extension in MODULES.items():
            if isinstance(extension, str):
                self.reasons[name] = extension
        self._report()

    def _forget_old_objects(self, extension: Extension) -> None:
        """Without CUDA in torch, ninja is not told which headers a .cu file includes."""
        read = [h for h in extension.depends if h.startswith(("csrc/cuda/", "csrc/shared/"))]
        newest = max((os.path.getmtime(header) for header in read), default=0.0)
        for file in extension.sources:
            built = Path(self.build_temp) / Path(file).with_suffix(".o")
            if file.endswith(".cu") and built.is_file() and built.stat().st_mtime < newest:
                built.unlink()

    def _report(self) -> None:
        """One box with everything that was not built and matters here."""
        missing = {n: r for n, r in self.reasons.items() if "in this version" not in r}
        if "_C_cuda" in missing and "no CUDA toolkit" in missing["_C_cuda"]:
            del missing["_C_cuda"]  # a machine without CUDA lacks nothing
        if not missing:
            return
        if os.environ.get("MCLREC_FAST_REQUIRE_NATIVE", "0") not in ("", "0"):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise RuntimeError(f"MCLREC_FAST_REQUIRE_NATIVE is set, but {reasons}")
        lines = ["mclrec_fast: some compiled parts could not be built.", ""]
        for name, reason in missing.items():
            lines += textwrap.wrap(f"{name}: {reason}", 84, subsequent_indent="    ")
        lines += [
            "",
            "The package works without them, in pure PyTorch and slower. The compiler's messages",
            "are above (pip shows them with -v). What is used, and why: python -m mclrec_fast",
        ]
        width = max(map(len, lines))
        box = ["+" + "-" * (width + 2) + "+"]
        text = "\n".join(box + [f"| {line:<{width}} |" for line in lines] + box)
        print(text, file=sys.stderr, flush=True)
        self._say_on_terminal(text)

    @staticmethod
    def _say_on_terminal(text: str) -> None:
        """Speak past pip, which swallows the output of a build that succeeds."""
        try:
            with open("/dev/tty", "w") as terminal:
                terminal.write("\n" + text + "\n")
        except OSError:
            pass

    def _record(self) -> str:
        """What was built and why not more, for the environment report."""
        modules: dict[str, dict[str, Any]] = {}
        for name in MODULES:
            reason = self.reasons.get(name)
            modules[name] = {"built": reason is None, "reason": reason}
        if modules["_C_cuda"]["built"]:
            home = cuda_home()
            assert home is not None
            modules["_C_cuda"]["architectures"] = cuda_architectures(home)
            modules["_C_cuda"]["toolkit"] = str(home)
        record = {
            "commit": commit(),
            "modules": modules,
            "torch": None if TORCH_PROBLEM else torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        return json.dumps(record, indent=2) + "\n"

    def _place(self, name: str, folder: Path) -> None:
        """Put the built module into the folder, or remove an older one that was not built now."""
        extension = MODULES[name]
        built = None
        if isinstance(extension, Extension) and name not in self.reasons:
            built = Path(self.build_lib) / self.get_ext_filename(extension.name)
            built = built if built.is_file() else ROOT / self.get_ext_filename(extension.name)
        for suffix in EXTENSION_SUFFIXES:  # what this Python would load
            old = folder / f"{name}{suffix}"
            if old.is_file() and (built is None or old.name != built.name):
                old.unlink()
        if built is not None and built.parent.resolve() != folder.resolve():
            self._write(folder / built.name, built.read_bytes())

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        """Replace a file at once: a running process may have the old module mapped."""
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        partial.chmod(0o755 if path.suffix == ".so" else 0o644)
        partial.replace(path)


MODULES: dict[str, Extension | str] = {
    "_C": cpu_extension(),
    "_C_cuda": cuda_extension(),
    "_reader": reader_extension(),
}

setup(
    ext_modules=[module for module in MODULES.values() if isinstance(module, Extension)],
    cmdclass={"build_ext": BuildNative},
)
