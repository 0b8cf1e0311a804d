"""The `measure` fixture: warm-up, rounds within a time budget, the machine's clock beside it.

    pytest benchmarks/ --benchmark-json=out.json        # everything, on an idle machine
    pytest benchmarks/bench_contrast.py --threads 1     # one op, one thread
    pytest benchmarks/ -m gpu --benchmark-json=gpu.json # what runs on a GPU, and nothing else
    pytest benchmarks/ --precision bf16 --benchmark-json=bf16.json # what rounds, rounding
    python -m benchmarks.report out.json gpu.json

Each row says what was computed (GFLOP of useful arithmetic, counted alike for every backend), how
fast in per cent of the multiply-add peak measured around it (a GPU's is not measured), and how much
memory it added. On a GPU a call counts until the device is done with it. What cannot run here is
skipped with the reason.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import machine
from benchmarks.sweep import Case
from mclrec_fast import _native, _precision
from mclrec_fast.config import KEYS

Prepare = Callable[[], Callable[[], object]]
_ROUND = ("encode", "item_cross_entropy", "train_step")  # on a CPU


def pytest_addoption(parser: pytest.Parser) -> None:
    """The benchmarks' own options."""
    group = parser.getgroup("mclrec_fast benchmarks")
    group.addoption("--size", choices=("full", "tiny"), default="full", help="tiny: does it run?")
    group.addoption("--threads", type=int, default=None, help="threads (default: all CPUs)")
    group.addoption("--seconds", type=float, default=1.0, help="time budget of a case")
    words = KEYS["precision"].choices
    group.addoption("--precision", choices=words, default=words[0], help="see the key precision")
    group.addoption("--max-gflop", type=float, default=400.0, help="skip cases above this work")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each benchmark its cases."""
    cases = getattr(metafunc.function, "cases", None)
    if cases is not None:
        tiny = metafunc.config.getoption("--size") == "tiny"
        metafunc.parametrize("case", [_parameter(case) for case in cases(tiny)], ids=str)


def _parameter(case: Case) -> Any:
    """A case as pytest takes it; one for a GPU is marked, and skipped without one."""
    if case.device == "cpu":
        return pytest.param(case)
    no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
    return pytest.param(case, marks=[pytest.mark.gpu, no_gpu])


def pytest_sessionstart(session: pytest.Session) -> None:
    """Set the threads; warn before the first figure rather than after the last."""
    threads = session.config.getoption("--threads")
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    if session.config.getoption("--size") != "tiny":
        machine.warn_if_busy(machine.load_average())


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Stamp the JSON with the machine."""
    machine_info.update(machine.stamp(torch.get_num_threads()))


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """The single timings are not needed afterwards, and are most of the file."""
    for row in output_json["benchmarks"]:
        row["stats"].pop("data", None)


class Measure:
    """Measures one case; a benchmark calls it once."""

    def __init__(self, benchmark: BenchmarkFixture, config: pytest.Config) -> None:
        self.benchmark = benchmark
        self.tiny = config.getoption("--size") == "tiny"
        self.seconds = config.getoption("--seconds")
        self.max_gflop = config.getoption("--max-gflop")
        self.precision = config.getoption("--precision")

    def __call__(
        self,
        case: Case,
        prepare: Prepare,
        *,
        gflop: float | None,
        gb: float,
        kernels: tuple[str, ...] | None = None,
        **info: float,
    ) -> None:
        """Measure, or skip with the reason.

        Args:
            case: what this is.
            prepare: makes the inputs and returns the function to time.
            gflop: useful arithmetic of one call; None where there is none to count.
            gb: memory that one call and its inputs need, at least.
            kernels: ops that must have kernels for "native"; None for the op of the case.
            info: more figures for the row.
        """
        self._skip_without(case, (case.op,) if kernels is None else kernels)
        self._skip_impossible(case, gflop, gb)
        self._skip_unrounded(case)
        backend: _native.Backend = "native" if case.backend == "native" else "torch"
        with _precision.rounding(self.precision, case.device, backend):
            self._measure(case, prepare, gflop, info)

    def _measure(
        self, case: Case, prepare: Prepare, gflop: float | None, info: dict[str, float]
    ) -> None:
        threads = torch.get_num_threads()
        call = prepare()

        def run() -> None:
            call()
            machine.wait(case.device)

        machine.wait(case.device)
        started = time.perf_counter()
        run()
        first = time.perf_counter() - started
        peak = self._peak(case, threads)
        memory = machine.added_memory(run, case.device)
        once = self._time(run, first)
        budget = 0.0 if self.tiny else self.seconds
        least = 1 if self.tiny or self._slow(first) else 3
        rounds = max(least, min(300, round(budget / once)))
        self.benchmark.group = case.op
        self.benchmark.pedantic(run, rounds=rounds)  # type: ignore[no-untyped-call]
        again = self._peak(case, threads)
        self._note(case, gflop, threads, memory, max(peak or 0.0, again or 0.0) or None, info)

    def _peak(self, case: Case, threads: int) -> float | None:
        """The multiply-add peak of a CPU, now; None for a GPU."""
        if case.device != "cpu":
            return None
        return machine.fma_peak(threads, 0.002 if self.tiny else 0.05)

    def _slow(self, first: float) -> bool:
        """Whether one round has to do for a case whose first call took this many seconds."""
        return first > 5 * float(self.seconds)

    def _time(self, run: Callable[[], object], first: float) -> float:
        """Seconds of a warm call; a slow call is repeated once, a very slow one not at all."""
        best, repeats = first, 5
        if self._slow(first):
            repeats = 0
        elif self.tiny or first > self.seconds / 4:
            repeats = 1
        for _ in range(repeats):
            started = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - started)
        return best

    def _skip_without(self, case: Case, kernels: tuple[str, ...]) -> None:
        missing = [op for op in kernels if not _native.has_kernel(op, case.device)]
        if case.backend == "native" and missing:
            reason = _native.why_not(case.device) or f"no kernel for {case.device} in this build"
            pytest.skip(f"{', '.join(missing)}: {reason}")

    def _skip_unrounded(self, case: Case) -> None:
        """What computes in float32 whatever the precision is measured without that option."""
        word, backend = self.precision, case.option
        if word == "float32":
            return
        if case.device == "cpu" and (case.op not in _ROUND or backend == "torch"):
            pytest.skip(f"{case.op} ({case.backend}) never rounds on a CPU")
        reason = _precision.problem(word, case.device, "native")
        if reason is not None:
            pytest.skip(reason)

    def _skip_impossible(self, case: Case, gflop: float | None, gb: float) -> None:
        free = machine.free_memory_gb(case.device)
        if free is not None and gb > 0.8 * free:
            pytest.skip(f"needs about {gb:.1f} GB of memory, {free:.1f} GB are free")
        if gflop is not None and gflop > self.max_gflop:
            pytest.skip(f"{gflop:.0f} GFLOP; raise --max-gflop ({self.max_gflop:g}) to run it")

    def _note(
        self,
        case: Case,
        gflop: float | None,
        threads: int,
        memory: float | None,
        peak: float | None,
        info: dict[str, float],
    ) -> None:
        median = self.benchmark.stats.stats.median if self.benchmark.stats else None
        rate = gflop / median if gflop is not None and median else None
        self.benchmark.extra_info |= {
            **vars(case),
            "threads": threads,
            "isa": _native.isa(),
            "precision": self.precision,
            "gflop": gflop,
            "gflops": rate,
            "fma_peak_gflops": peak,
            "percent_of_peak": 100 * rate / peak if rate is not None and peak else None,
            "added_memory_mb": memory,
            "load_average": machine.load_average(),
            **info,
        }


@pytest.fixture
def measure(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Measure:
    """Measures one case."""
    torch.manual_seed(0)
    return Measure(benchmark, request.config)
