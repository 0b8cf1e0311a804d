"""Every op benchmark runs once at tiny size; the report makes tables and plots of the result."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import baselines, report, work
from mclrec_fast import _native, _precision
from mclrec_fast.ops import packed_attention

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "benchmarks").glob("bench_*.py"))


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Benchmarks of tiny size in a process of their own, as a user starts them."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--size", "tiny"]
    # pytest-benchmark measures nothing where it sees that it shares the machine.
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env=alone
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of one tiny run of everything."""
    path = tmp_path_factory.mktemp("benchmarks") / "out.json"
    run = bench("benchmarks/", "--threads", "1", "-q", f"--benchmark-json={path}")
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row["extra_info"] for row in json.loads(path.read_text())["benchmarks"]]


def test_every_file_measures_something(result: Path) -> None:
    assert {row["op"] for row in rows_of(result)} == {f.stem.removeprefix("bench_") for f in FILES}


def test_rows_say_what_a_reader_needs(result: Path) -> None:
    content = json.loads(result.read_text())
    assert {"cpu_name", "threads", "load_average", "fma_peak_gflops"} <= content[
        "machine_info"
    ].keys()
    for row in content["benchmarks"]:
        info = row["extra_info"]
        assert info["threads"] == 1
        if info["gflop"] is not None:
            assert info["gflops"] == pytest.approx(info["gflop"] / row["stats"]["median"])
        if info["gflops"] is not None and info["fma_peak_gflops"] is not None:
            share = 100 * info["gflops"] / info["fma_peak_gflops"]
            assert info["percent_of_peak"] == pytest.approx(share)


def test_axes_move_one_size_at_a_time(result: Path) -> None:
    same = ("op", "backend", "direction", "device")
    base = {tuple(r[k] for k in same): r for r in rows_of(result) if r["axis"] == "base"}
    for row in rows_of(result):
        start = base[tuple(row[k] for k in same)]
        moved = {axis for axis in report.AXES if row[axis] != start[axis]}
        assert moved == ({row["axis"]} if row["axis"] != "base" else set())


def test_report_prints_every_row(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(result)]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    for line in lines:
        assert line.count("|") >= 5
    bases = [row for row in rows_of(result) if row["axis"] == "base"]
    first_table = printed.split("\n\n")[1].splitlines()
    assert len(first_table) == len(bases) + 2
    assert "**top_k, 1 thread(s), by classes**" in printed


def test_report_compares_with_plain_torch() -> None:
    def row(backend: str, ms: float) -> report.Row:
        info = dict.fromkeys(report.AXES, 1) | {
            "op": "x", "direction": "run", "threads": 2, "axis": "base", "backend": backend,
            "gflops": 50.0, "percent_of_peak": 25.0, "added_memory_mb": 1.5,
        }  # fmt: skip
        return report.Row(info, ms, ms)

    lines = report.base_table([row("native", 2.0), row("eager", 9.0)]).splitlines()[2:]
    assert lines[0] == "| x | 2 | PyTorch | 9 | 1 | 50.00 | 25.00 | 1.5 |"
    assert lines[1] == "| x | 2 | native | 2 | 4.5 | 50.00 | 25.00 | 1.5 |"
    on_gpu = row("native", 0.5)
    on_gpu.info.update(device="cuda", percent_of_peak=None)
    both = report.base_table([row("native", 2.0), on_gpu]).splitlines()[2:]
    assert both[1] == "| x | GPU | native | 0.5 |  | 50.00 |  | 1.5 |"
    alone = report.base_table([row("native", 2.0)]).splitlines()[2:]
    assert alone == ["| x | 2 | native | 2 |  | 50.00 | 25.00 | 1.5 |"]


def test_report_tells_precisions_apart() -> None:
    def row(backend: str, ms: float, axis: str, batch: int, **more: Any) -> report.Row:
        info = dict.fromkeys(report.AXES, 1) | {
            "op": "x", "direction": "run", "threads": 2, "axis": axis, "backend": backend,
            "gflops": 50.0, "percent_of_peak": 25.0, "added_memory_mb": 1.5, "batch": batch, **more,
        }  # fmt: skip
        return report.Row(info, ms, ms)

    rows = [
        row("native", ms, axis, batch, precision=word)
        for axis, batch in (("base", 1), ("batch", 8))
        for word, ms in (("bf16", 1.0), ("bf16x3", 2.0), ("float32", 4.0))
    ]
    rows += [row("eager", 8.0, "base", 1), row("eager", 8.0, "batch", 8)]
    lines = [line.split(" | ")[2:5] for line in report.base_table(rows).splitlines()[2:]]
    assert lines == [
        ["PyTorch", "8", "1"],
        ["native", "4", "2"],
        ["native bf16", "1", "8"],
        ["native bf16x3", "2", "4"],
    ]
    moved = report.axis_tables(rows).splitlines()
    assert "| PyTorch ms | native ms | native bf16 ms | native bf16x3 ms | speed-up |" in moved[2]
    assert moved[-1] == "| 8 | 8 | 4 | 1 | 2 | 2 | 25.00 |"


def test_what_never_rounds_is_a_visible_skip() -> None:
    run = bench("benchmarks/bench_contrast.py", "-rs", "-m", "not gpu", "--precision", "bf16")
    assert "contrast (native) never rounds on a CPU" in run.stdout
    assert "passed" not in run.stdout


def test_rows_say_how_they_round(tmp_path: Path) -> None:
    """Or why they cannot here."""
    reason = _precision.problem("bf16", "cpu", "native") if _native.available() else ""
    file = tmp_path / "bf16.json"
    chosen = ("benchmarks/bench_item_cross_entropy.py", "-m", "not gpu", "-k", "native")
    run = bench(*chosen, "-rs", "--precision", "bf16", f"--benchmark-json={file}")
    assert run.returncode == 0, run.stdout[-4000:]
    if reason is None:
        rows = rows_of(file)
        assert rows and {row["precision"] for row in rows} == {"bf16"}
    else:
        assert "passed" not in run.stdout and (reason or "kernels") in run.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)
def test_report_draws(result: Path, tmp_path: Path) -> None:
    assert report.main([str(result), "--short", "--plots", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "top_k_1.svg").stat().st_size > 1000


def test_report_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"benchmarks": []}')
    with pytest.raises(SystemExit, match=r"other\.json"):
        report.main([str(path)])


def test_too_much_work_is_a_visible_skip(tmp_path: Path) -> None:
    run = bench("benchmarks/bench_top_k.py", "--max-gflop", "1e-9", "-rs", "-k", "eager")
    assert "raise --max-gflop" in run.stdout
    assert "passed" not in run.stdout


def test_gpu_cases_are_chosen_by_their_mark() -> None:
    run = bench("benchmarks/", "-m", "gpu", "-q", "--collect-only")
    chosen = [line for line in run.stdout.splitlines() if "::" in line]
    measured = {line.split("::bench_")[1].split("[")[0] for line in chosen}
    assert measured == {f.stem.removeprefix("bench_") for f in FILES} - {"reader"}
    assert all("[cuda-" in line for line in chosen)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_case_without_a_gpu_is_a_visible_skip() -> None:
    run = bench("benchmarks/bench_contrast.py", "-m", "gpu")
    assert run.returncode == 0
    assert "no CUDA GPU here" in run.stdout
    assert "passed" not in run.stdout


def test_counted_work() -> None:
    """By hand: B = 2 rows, V = 3, D = 5; sequences of 1 and 3 tokens, D = 4, inner 16."""
    assert work.item_cross_entropy(2, 3, 5, backward=True) == pytest.approx(3 * 2 * 30e-9)
    assert work.ranking(2, 3, 5) == pytest.approx(60e-9)
    # Half of each view's own block (four of them) and three whole blocks between views: 5 B^2.
    assert work.contrast(2, 5, backward=False) == pytest.approx(2 * 5 * 4 * 5e-9)
    assert work.info_nce(2, 5, backward=True) == pytest.approx(16 * 4 * 5e-9)
    lengths = torch.tensor([1, 3])
    assert work.packed_attention(lengths, 4, backward=False) == pytest.approx(
        4 * 4 * (1 + 6) * 1e-9
    )
    projections, feed_forward = 4 * 2 * 4 * 4, 2 * 2 * 4 * 16
    full = 4 * (projections + feed_forward) + 2 * 2 * 4 * (1 + 6)
    last = 2 * (projections + feed_forward) + 2 * 2 * 4 * 2 * (1 + 3)
    expected = 1e-9 * (full + last)
    assert work.encode(lengths, 4, 16, 2, 2, backward=False) == pytest.approx(expected)


def test_plain_attention_is_the_operator_without_dropout() -> None:
    """Padded and packed hold the same tokens; padding behind a row changes none of them."""
    n = torch.tensor([3, 1, 5])
    q, k, v = torch.randn(3, len(n), 2, int(n.max()), 4, dtype=torch.float64)  # [S, H, W, d]
    real = torch.arange(int(n.max())) < n[:, None]  # [S, W]
    packed = [x.transpose(1, 2)[real] for x in (q, k, v)]  # [T, H, d]
    offsets = torch.tensor([0, 3, 4, 9], dtype=torch.int32)
    expected = packed_attention(*packed, offsets, backend="torch")
    found = baselines.causal_attention(q, k, v, 0.0).transpose(1, 2)[real]
    torch.testing.assert_close(found, expected)
