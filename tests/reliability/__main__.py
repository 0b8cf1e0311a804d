"""The suite of reliability at length: `python -m tests.reliability --long`, or some of its parts.

Prints what was tried and what came of it. `--scale 0.1` tries a tenth, `--seed N` other things.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.conformance.op_cases import OPS
from tests.small_runs import quiet_run, write_log

from . import crashes
from .asking import ask_in_threads
from .damage import flip_bits
from .guided import READER, guided, why_not
from .kills import kill_at_random
from .loaders import fuzz_loader, loaders
from .ops import fuzz_op
from .power_loss import lose_power
from .processes import Commands
from .readers import fuzz_readers
from .recovery import undisturbed

Part = Callable[[Path, float, int], Counter[str]]


def small_run(folder: Path) -> Path:
    """A run whose files are small."""
    log = write_log(folder / "log.txt", users=30, items=15)
    assert quiet_run(log, folder / "run", "--epochs", "1", "--model", "sasrec") == 0
    return folder / "run"


def crash_points(folder: Path, scale: float, seed: int) -> Counter[str]:
    """Each call of a training, a resumed one, save, recommend and reproduce; every action."""
    counts: Counter[str] = Counter()
    with Commands() as commands:
        training = undisturbed(commands, folder, "--model", "sasrec")
        works = {
            "train": crashes.new_training(commands, training),
            "resume": crashes.resumed_training(commands, training, folder / "half"),
            "save": crashes.saving(commands, training),
            "recommend": crashes.recommending(commands, training),
            "reproduce": crashes.reproducing(commands, training, folder / "made"),
        }
        for name, work in works.items():
            number = None if scale >= 1 else round(400 * scale)
            found = crashes.crash_everywhere(
                commands, folder / name, work, number=number, seed=seed
            )
            counts.update({f"{name}: {what}": n for what, n in found.items()})
    return counts


def random_kills(folder: Path, scale: float, seed: int) -> Counter[str]:
    """250 kills of a training of MCLRec."""
    with Commands() as commands:
        training = undisturbed(commands, folder)
        return kill_at_random(commands, training, folder, round(250 * scale), seed)


def power_loss(folder: Path, scale: float, seed: int) -> Counter[str]:
    """Every moment of a training, with eight draws of what was left."""
    with Commands() as commands:
        training = undisturbed(commands, folder, "--model", "sasrec")
        return lose_power(commands, training, folder, draws=max(1, round(8 * scale)), seed=seed)


def flipped_bits(folder: Path, scale: float, seed: int) -> Counter[str]:
    """Every bit of every file."""
    return flip_bits(small_run(folder), every=max(1, round(1 / scale)), first=seed)


def readers(folder: Path, scale: float, seed: int) -> Counter[str]:
    """1 000 000 logs."""
    return fuzz_readers(folder, round(1_000_000 * scale), seed)


def ops(folder: Path, scale: float, seed: int) -> Counter[str]:
    """20 000 calls of each op."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for op in OPS.values():
        found, bad = fuzz_op(op, round(20_000 * scale), seed)
        counts.update({f"{op.name}: {what}": n for what, n in found.items()})
        wrong += bad
    assert not wrong, f"{counts}\n{len(wrong)} disagreements, such as\n" + "\n".join(wrong[:20])
    return counts


def requests(folder: Path, scale: float, seed: int) -> Counter[str]:
    """3 000 requests from four threads."""
    return ask_in_threads(small_run(folder), round(3000 * scale), seed=seed)


def spoilt_files(folder: Path, scale: float, seed: int) -> Counter[str]:
    """20 000 spoilt files for each loader."""
    counts: Counter[str] = Counter()
    for name, loader in loaders(folder).items():
        found = fuzz_loader(loader, folder, round(20_000 * scale), seed)
        counts.update({f"{name}: {what}": n for what, n in found.items()})
    return counts


def guided_fuzzing(folder: Path, scale: float, seed: int) -> Counter[str]:
    """Each loader and the C++ reader by coverage, a minute each."""
    counts: Counter[str] = Counter()
    for name in (READER, *loaders(folder)):
        reason = why_not(name)
        if reason:
            print(f"  SKIPPED: {name}: {reason}", flush=True)
            continue
        counts[f"{name}: inputs"] = guided(name, max(1, round(60 * scale)), folder)
    return counts


PARTS: dict[str, Part] = {
    "crash-points": crash_points,
    "random-kills": random_kills,
    "power-loss": power_loss,
    "flipped-bits": flipped_bits,
    "readers": readers,
    "ops": ops,
    "requests": requests,
    "spoilt-files": spoilt_files,
    "guided": guided_fuzzing,
}


def memory() -> str | None:
    """A folder in memory, where there is one: on disk half of `readers` is opening files."""
    there = "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK)
    return "/dev/shm" if there else None


def main() -> int:
    """Runs the parts; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--long", action="store_true", help="all of it; without it a hundredth")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - PARTS.keys()
    if unknown:
        parser.error(f"unknown part {unknown.pop()!r}, expected {', '.join(PARTS)}")
    scale, failed = arguments.scale * (1.0 if arguments.long else 0.01), 0
    for name in arguments.parts or PARTS:
        began = time.perf_counter()
        print(f"{name}: {PARTS[name].__doc__}", flush=True)
        with tempfile.TemporaryDirectory(prefix="mclrec-reliability-", dir=memory()) as folder:
            try:
                for what, count in sorted(PARTS[name](Path(folder), scale, arguments.seed).items()):
                    print(f"  {count:>9}  {what}")
            except AssertionError as error:
                failed += 1
                print(f"  FAILED: {error}")
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
