"""Registers, shared memory, spills and occupancy of every CUDA kernel, from the compiler.

`python -m benchmarks.cuda_resources` compiles csrc/cuda/*.cu with nvcc as setup.py does, for every
architecture from the PTX of the first (no GPU and no torch needed), refuses warnings and spills
above a ceiling, and prints a Markdown table;
`--write FILE` puts it between the markers of a document. It says what a kernel may use, not how
fast it is.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).resolve().parents[1] / "csrc" / "cuda"
ARCHITECTURES = ("80", "90", "100")
SPILL_CEILING = 64
"""Bytes a float kernel may spill; float64 kernels are for checking gradients and may spill more."""
BEGIN, END = "<!-- cuda_resources: begin -->", "<!-- cuda_resources: end -->"

# Shared memory of an SM in KiB, of which each block takes one more than it asks for.
_SHARED_KIB = {"80": 164, "86": 100, "89": 100, "90": 228, "100": 228, "120": 100}
_THREADS_PER_SM = {"86": 1536, "89": 1536, "120": 1536}

# Threads a block and numbers of dynamic shared memory at D = 64, as the launchers have them.
_STRIP, _STAGES = 3 * 64 * 68, 4 * 64 * 36
_LAUNCH = {
    "view_lengths_kernel": (128, 4 * 50),
    "write_views_kernel": (128, 4 * 50),
    "similarity_statistics_kernel": (128, _STRIP),
    "similarity_gradients_kernel": (128, _STRIP),
    "similarity_losses_kernel": (256, 0),
    "item_statistics_kernel": (128, _STRIP),
    "item_gradient_kernel": (128, _STRIP),
    "item_loss_kernel": (256, 0),
    "target_counts_kernel": (128, _STRIP),
    "top_k_lists_kernel": (128, _STRIP),
    "dense_kernel": (128, _STAGES),
    "dense_input_gradient_kernel": (128, _STAGES),
    "dense_weight_gradients_kernel": (128, _STAGES),
    "norm_backward_kernel": (128, 8 * 2 * 64),
    "position_gradient_kernel": (256, 8 * 64),
}
_DEFAULT_LAUNCH = (128, 0)


class Kernel(NamedTuple):
    """What the assembler reports of one kernel on one architecture."""

    name: str
    architecture: str
    registers: int
    shared: int  # static, bytes
    stack: int
    spills: int  # bytes stored

    @property
    def plain_name(self) -> str:
        """The name without template arguments."""
        return self.name.split("<", 1)[0]

    @property
    def double(self) -> bool:
        """Whether it is a float64 instance."""
        return "double" in self.name

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return _LAUNCH.get(self.plain_name, _DEFAULT_LAUNCH)[0]

    @property
    def shared_at_64(self) -> int:
        """Shared memory of a block at D = 64, bytes."""
        numbers = _LAUNCH.get(self.plain_name, _DEFAULT_LAUNCH)[1]
        return self.shared + numbers * (8 if self.double else 4)

    def blocks_per_sm(self) -> int:
        """Blocks that fit on an SM at once, by registers, shared memory and threads."""
        warps = self.threads // 32
        # Registers are handed out to warps in portions of 256.
        by_registers = 65536 // (warps * -(-self.registers * 32 // 256) * 256)
        by_shared = _SHARED_KIB[self.architecture] * 1024 // (self.shared_at_64 + 1024)
        by_threads = _THREADS_PER_SM.get(self.architecture, 2048) // self.threads
        return min(by_registers, by_shared, by_threads, 32)

    def occupancy(self) -> float:
        """Resident threads as a share of what an SM can hold."""
        most = _THREADS_PER_SM.get(self.architecture, 2048)
        return self.blocks_per_sm() * self.threads / most


def parse(report: str) -> Iterator[Kernel]:
    """Read what `ptxas -v` wrote, with names already demangled."""
    name, architecture, stack, spills = "", "", 0, 0
    for line in report.splitlines():
        if match := re.search(r"Compiling entry function '(.+)' for 'sm_(\d+)", line):
            name, architecture = _short(match[1]), match[2]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", line):
            stack, spills = int(match[1]), int(match[2])
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            bytes_ = int(shared[1]) if shared else 0
            yield Kernel(name, architecture, int(match[1]), bytes_, stack, spills)


def _short(signature: str) -> str:
    """`kernel<float, 2>` of a demangled signature."""
    name = re.sub(r"^void ", "", signature.replace("mclrec::cuda::", ""))
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            name = name[:i]
            break
    return (
        name.replace("Tf32Product", "TF32")
        .replace("Bf16Product", "bf16")
        .replace("PlainProduct<float> ", "plain")
        .replace("PlainProduct<float>", "plain")
    )


def compile_all(architectures: list[str]) -> tuple[list[Kernel], str]:
    """Compile every source for every architecture; returns the kernels and all warnings."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise SystemExit("nvcc is not on PATH")

    targets = [f"-gencode=arch=compute_{architectures[0]},code=sm_{a}" for a in architectures]

    def compile_one(source: Path) -> str:
        with tempfile.TemporaryDirectory() as folder:
            command = [nvcc, "-std=c++20", "-O3", *targets, "-Xptxas", "-v"]
            command += ["-Xcompiler", "-Wall,-Wextra", "-c", str(source), "-o", f"{folder}/out.o"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        filtered = subprocess.run(["c++filt"], input=done.stderr, capture_output=True, text=True)
        return filtered.stdout

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
        report = "\n".join(pool.map(compile_one, sorted(SOURCES.glob("*.cu"))))
    warnings = "\n".join(line for line in report.splitlines() if "warning" in line.lower())
    return sorted(parse(report)), warnings


def table(kernels: list[Kernel], architectures: list[str]) -> str:
    """Float kernels as a Markdown table; one column of figures an architecture."""
    lines = [
        "Registers a thread / spilled bytes / blocks an SM (occupancy); shared memory at D = 64.",
        "",
        "| kernel | threads | shared, bytes | "
        + " | ".join(f"sm_{a}" for a in architectures)
        + " |",
        "|---|---|---|" + "---|" * len(architectures),
    ]
    by_name: dict[str, dict[str, Kernel]] = {}
    for kernel in kernels:
        if not kernel.double:
            by_name.setdefault(kernel.name, {})[kernel.architecture] = kernel
    for name, found in by_name.items():
        first = next(iter(found.values()))
        cells = []
        for a in architectures:
            k = found[a]
            cells.append(f"{k.registers} / {k.spills} / {k.blocks_per_sm()} ({k.occupancy():.0%})")
        row = [f"`{name}`", str(first.threads), str(first.shared_at_64), *cells]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Compile, judge, print or write; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="+", default=list(ARCHITECTURES), help="e.g. 80 90")
    parser.add_argument("--write", type=Path, help="document whose table is replaced")
    options = parser.parse_args(arguments)
    kernels, warnings = compile_all(options.arch)
    text = table(kernels, options.arch)
    if options.write is None:
        print(text)
    else:
        before, rest = options.write.read_text().split(BEGIN)
        after = rest.split(END)[1]
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    bad = [k for k in kernels if not k.double and k.spills > SPILL_CEILING]
    for kernel in bad:
        print(
            f"{kernel.name} spills {kernel.spills} bytes on sm_{kernel.architecture}",
            file=sys.stderr,
        )
    if warnings:
        print(warnings, file=sys.stderr)
    print(
        f"{len(kernels)} kernel instances, {len(bad)} above the spill ceiling of "
        f"{SPILL_CEILING} bytes, {'warnings' if warnings else 'no warnings'}",
        file=sys.stderr,
    )
    return int(bool(bad or warnings))


if __name__ == "__main__":
    raise SystemExit(main())
