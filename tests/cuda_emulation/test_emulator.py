"""The emulation itself: right kernels pass on it, planted mistakes do not.

This is emulation on a CPU, not a GPU.
"""

import ctypes
import sys
from typing import Any

import numpy as np
import pytest
import torch

from . import build

if build.compiler() is None:
    pytest.skip("no C++ compiler: the CUDA emulation is not built", allow_module_level=True)

THREADS = 64
FORWARD, REVERSE, RANDOM = 0, 1, 2
SCHEDULES = [(FORWARD, 0), (REVERSE, 0), (RANDOM, 1), (RANDOM, 2)]
SOURCES = (build.EMULATION / "self_test.cpp",)


class KernelError(Exception):
    """What the emulation had to say."""


def load(*flags: str) -> ctypes.CDLL:
    """Build and load the self-test kernels."""
    library = ctypes.CDLL(str(build.shared_library("self_test", SOURCES, flags)))
    library.mclrec_emulation_launches.restype = ctypes.c_int64
    return library


def call(library: ctypes.CDLL, name: str, values: Any, count: int, schedule: Any) -> Any:
    """Run one kernel; returns its output, or raises what the emulation noticed.

    Input and output lie inside larger arrays of NaN, which must come back untouched.
    """
    library.mclrec_emulation_schedule(ctypes.c_int(schedule[0]), ctypes.c_uint64(schedule[1]))
    margin = 4 * THREADS
    around = np.full((2, len(values) + 2 * margin), np.nan, np.float32)
    around[0, margin:-margin] = values
    inside = around[:, margin:-margin]
    message = ctypes.create_string_buffer(1000)
    result = library.mclrec_self_test(
        name.encode(),
        ctypes.c_void_p(inside[0].ctypes.data),
        ctypes.c_void_p(inside[1].ctypes.data),
        ctypes.c_int(count),
        message,
        ctypes.c_int(len(message)),
    )
    if result < 0:
        raise KernelError(message.value.decode())
    assert np.isnan(around[:, :margin]).all() and np.isnan(around[:, -margin:]).all()
    return inside[1].copy(), result


@pytest.fixture(scope="module", params=["switch", "ucontext"])
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """The self-test kernels, with either kind of fiber."""
    return load(*(["-DMCLREC_EMULATION_UCONTEXT"] if request.param == "ucontext" else []))


def numbers(count: int) -> Any:
    """Distinct float32 numbers, some negative."""
    return (np.arange(count, dtype=np.float32) * 0.37 - count / 5.0).astype(np.float32)


@pytest.fixture(params=SCHEDULES, ids=["forward", "reverse", "random1", "random2"])
def schedule(request: pytest.FixtureRequest) -> Any:
    """The order in which runnable threads go on."""
    return request.param


def test_right_kernels_give_right_results(library: ctypes.CDLL, schedule: Any) -> None:
    """Barriers, collectives, tails, pipelines: the result does not depend on the schedule."""
    x = numbers(2 * THREADS)
    reverse = x.reshape(2, THREADS)[:, ::-1].reshape(-1)
    assert np.array_equal(call(library, "reverse", x, len(x), schedule)[0], reverse)

    warps = x[:THREADS].reshape(2, 32)
    sums, _ = call(library, "warp_sum", x[:THREADS], THREADS, schedule)
    np.testing.assert_allclose(sums.reshape(2, 32), warps.sum(1, keepdims=True).repeat(32, 1), 1e-5)

    exchanged, _ = call(library, "warp_exchange", x[:THREADS], THREADS, schedule)
    assert np.array_equal(exchanged.reshape(2, 32), np.roll(warps, -5, axis=1))

    total, _ = call(library, "tail_sum", x[:100], 100, schedule)
    np.testing.assert_allclose(total[0], x[:100].sum(), 1e-5)

    rounds = x.reshape(2, THREADS)
    doubled, _ = call(library, "pipeline", x, len(x), schedule)
    assert np.array_equal(doubled, 2.0 * np.roll(rounds, -1, axis=1).reshape(-1))


def test_collectives_follow_the_manual(library: ctypes.CDLL, schedule: Any) -> None:
    """Votes, shuffles up, down and within groups of four."""
    x = np.random.default_rng(0).integers(-9, 9, THREADS).astype(np.float32)
    warps = x.reshape(2, 32)
    below = np.concatenate((warps[:, :1], warps[:, :-1]), 1)
    above = np.concatenate((warps[:, 2:], warps[:, -2:]), 1)
    third = warps.reshape(2, 8, 4)[:, :, 3:].repeat(4, 2).reshape(2, 32)
    expected = (warps > 0).sum(1, keepdims=True) + 100 * below + 1e4 * above + 1e6 * third
    got, _ = call(library, "collectives", x, THREADS, schedule)
    np.testing.assert_allclose(got.reshape(2, 32), expected.astype(np.float32), 1e-6)


def test_every_thread_of_a_grid_runs_once(library: ctypes.CDLL, schedule: Any) -> None:
    """Three-dimensional grids and blocks; atomics; launches are counted."""
    before = library.mclrec_emulation_launches()
    out, count = call(library, "grid", np.zeros(12 * THREADS, np.float32), 0, schedule)
    assert count == 12 * THREADS
    assert np.array_equal(out, np.arange(12 * THREADS))
    assert library.mclrec_emulation_launches() == before + 1


def product_operands(depth: int) -> tuple[Any, Any]:
    """Operands a [16, depth] and b [depth, 8], exact in TF32 and bf16."""
    generator = np.random.default_rng(1)
    a, b = generator.integers(-99, 99, (16, depth)), generator.integers(-99, 99, (depth, 8))
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize(("kernel", "depth"), [("mma", 8), ("mma_bf16", 16)])
def test_tensor_core_fragments(
    library: ctypes.CDLL, schedule: Any, kernel: str, depth: int
) -> None:
    """The lane-by-lane mma is a matrix product when, and only when, the lanes load it right."""
    a, b = product_operands(depth)
    operands = np.concatenate((a.reshape(-1), b.reshape(-1)))
    got, _ = call(library, kernel, operands, 0, schedule)
    assert np.array_equal(got[:128].reshape(16, 8), a @ b)
    swapped, _ = call(library, f"{kernel}_swapped", operands, 0, schedule)
    assert not np.array_equal(swapped[:128].reshape(16, 8), a @ b)


def test_bf16_is_rounded_to_nearest_even(library: ctypes.CDLL, schedule: Any) -> None:
    """As torch rounds: ties both ways, denormal, huge, infinite and NaN."""
    bits = [0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x00000001, 0x00018000, 0x7F7FFFFF]
    bits += [0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001]
    x = np.random.default_rng(2).standard_normal(THREADS).astype(np.float32)
    x[: len(bits)] = np.array(bits, np.uint32).view(np.float32)
    got, _ = call(library, "bf16", x, 0, schedule)
    expected = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(got[:THREADS], expected)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("barrier_in_branch", "divergent"),
        ("two_barriers", "divergent barrier"),
        ("early_return", "divergent"),
        ("shuffle_in_branch", "divergent"),
        ("dynamic_not_asked_for", "dynamic shared memory"),
        ("half_a_warp", "whole warps"),
        ("mma_unrounded", "not rounded to TF32"),
    ],
)
def test_planted_mistakes_are_refused(
    library: ctypes.CDLL, schedule: Any, kernel: str, said: str
) -> None:
    """Mistakes the emulation itself notices, under every schedule."""
    with pytest.raises(KernelError, match=said):
        call(library, kernel, numbers(4 * THREADS), 4 * THREADS, schedule)


def test_a_write_behind_a_shared_array_is_refused(library: ctypes.CDLL, schedule: Any) -> None:
    """By the guard zone behind the array, also without AddressSanitizer."""
    with pytest.raises(KernelError, match="behind the end of a shared array"):
        call(library, "shared_overrun", numbers(THREADS), THREADS, schedule)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("reverse_missing_first_barrier", "reverse"),
        ("reverse_missing_second_barrier", "reverse"),
        ("warp_exchange_missing_barrier", "warp_exchange"),
        ("pipeline_missing_wait", "pipeline"),
        ("pipeline_missing_barrier", "pipeline"),
        ("tail_sum_missing_mask", "tail_sum"),
    ],
)
def test_planted_mistakes_change_the_result(library: ctypes.CDLL, wrong: str, right: str) -> None:
    """Mistakes that poison, schedules or margins of NaN bring to light: some schedule differs."""
    x = numbers(4 * THREADS)
    count = len(x) - 28 if "tail" in wrong else len(x)
    differs = []
    for schedule in SCHEDULES:
        expected, _ = call(library, right, x[:count], count, schedule)
        try:
            got, _ = call(library, wrong, x[:count], count, schedule)
        except KernelError:
            differs.append(True)
            continue
        differs.append(not np.array_equal(got, expected, equal_nan=True))
    assert any(differs)


ADDRESS_SANITIZER_SCRIPT = """
import ctypes, sys
import numpy as np
library = ctypes.CDLL(sys.argv[1])
count = int(sys.argv[3])
x, out = np.zeros(count, np.float32), np.zeros(64, np.float32)
message = ctypes.create_string_buffer(1000)
library.mclrec_self_test(sys.argv[2].encode(), ctypes.c_void_p(x.ctypes.data),
                         ctypes.c_void_p(out.ctypes.data), ctypes.c_int(count), message, 1000)
print("finished")
"""


@pytest.mark.parametrize(
    ("kernel", "caught"),
    [("tail_sum", False), ("tail_sum_missing_mask", True), ("shared_overrun", True)],
)
def test_address_sanitizer_sees_accesses_out_of_bounds(kernel: str, caught: bool) -> None:
    """Built with AddressSanitizer, a read or write one number too far ends the process."""
    library = build.shared_library("self_test_asan", SOURCES, build.ADDRESS_SANITIZER)
    done = build.run_with_address_sanitizer(
        [sys.executable, "-c", ADDRESS_SANITIZER_SCRIPT, str(library), kernel, "100"]
    )
    if done is None:
        pytest.skip("no AddressSanitizer runtime beside the C++ compiler")
    assert ("finished" in done.stdout) != caught, done.stderr
    assert ("buffer-overflow" in done.stderr) == caught, done.stderr
