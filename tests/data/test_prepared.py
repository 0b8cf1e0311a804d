"""A prepared log is the log: the same arrays and card, whole or not there, refused when it is not.

Chunks and ranges are made small, so that logs of some hundred rows take every pass.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast import Dataset, SASRec
from mclrec_fast.commands import main
from mclrec_fast.config import DataConfig
from mclrec_fast.data import load_dataset, load_other, outside, prepared, reader, spool
from mclrec_fast.data.columns import ColumnNames
from mclrec_fast.data.layout import find_layout
from mclrec_fast.data.prepare import prepare
from mclrec_fast.data.source import Source
from mclrec_fast.errors import InputError

native = pytest.mark.skipif(not reader.available(), reason="the C++ reader is not built")


@pytest.fixture(autouse=True)
def small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of 64 rows, ranges of 100."""
    monkeypatch.setattr(spool, "CHUNK_ROWS", 64)
    monkeypatch.setattr(spool, "_HELD_ROWS", 16)
    monkeypatch.setattr(outside, "RANGE_ROWS", 100)


def _rows(seed: int, texts: bool = False, floats: bool = False) -> list[tuple[Any, ...]]:
    """Rows with ties, repeats, rare users and items, in no order."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(700):
        user, item = int(rng.zipf(1.3) % 90), int(rng.zipf(1.2) % 60)
        time = int(rng.integers(0, 400))
        late = floats and len(rows) > 300
        row = (user, item, f"{time}.5" if late else time, int(rng.integers(1, 6)))
        rows.append((*row, int(rng.integers(0, 3))))
    if texts:
        rows = [(f"u{u}", f"i{i}" if n > 500 else i, *r) for n, (u, i, *r) in enumerate(rows)]
    rows += rows[::50]
    return rows


def _csv(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    lines = ["user,item,time,rating,then", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _require_equal(found: Dataset, expected: Dataset) -> None:
    """Every array has the same type and values; the cards differ by where the log lies."""
    for name in ("items", "offsets", "times", "user_ids", "item_ids"):
        _require_same(getattr(found.log, name), getattr(expected.log, name), name)
    for name in ("train", "valid", "test"):
        ours, theirs = getattr(found.split, name), getattr(expected.split, name)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            _require_same(ours.users, theirs.users, name)
            _require_same(ours.ends, theirs.ends, name)
    for name in ("dropped_users", "holdout", "valid_from", "test_from"):
        assert getattr(found.split, name) == getattr(expected.split, name), name
    _require_same(found.training_counts(), expected.training_counts(), "counts")
    cards = [asdict(of.card) for of in (found, expected)]
    *notes, last = cards[0].pop("notes")
    assert last == f"prepared from {expected.log.source}"
    assert tuple(notes) == cards[1].pop("notes")
    for name in cards[0].keys() - {"name", "source"}:
        assert cards[0][name] == cards[1][name], name


def _require_same(found: Any, expected: Any, name: str) -> None:
    if expected is None:
        assert found is None, name
        return
    assert found.dtype == expected.dtype, name
    assert np.array_equal(found, expected), name


_OPTIONS: list[dict[str, Any]] = [
    {},
    {"holdout": "none"},
    {"holdout": "temporal"},
    {"holdout": "temporal", "valid_fraction": 0.2, "test_fraction": 0.3, "min_user": 3},
    {"min_user": 5, "min_item": 4},
    {"dedupe": "first"},
    {"dedupe": "exact"},
    {"min_rating": 3.0, "dedupe": "first", "min_user": 3, "min_item": 3},
    {"then_by": "then"},
    {"then_by": "then", "dedupe": "first", "min_rating": 2.0, "rating_col": "rating"},
    {"ignore_times": True},
    {"reader": "numpy", "dedupe": "exact"},
]


@native
@pytest.mark.filterwarnings("ignore::mclrec_fast.data.LogWarning")
@pytest.mark.parametrize("options", _OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["integers", "texts", "floats"])
def test_is_what_reading_gives(tmp_path: Path, options: dict[str, Any], kind: str) -> None:
    """Every option, ids of both kinds, times that become decimal in the middle of the file."""
    rows = _rows(len(str(options)), kind == "texts", kind == "floats")
    log = _csv(tmp_path / "log.csv", rows)
    config = DataConfig(data=str(log), **options)
    prepare(config, tmp_path / "made")
    read = load_dataset(config, batch_size=10)
    _require_equal(load_dataset(data=str(tmp_path / "made"), batch_size=10), read)
    again = load_dataset(config, data=str(tmp_path / "made"), batch_size=10)
    _require_equal(again, read)
    assert again.config.holdout == read.config.holdout


@native
@pytest.mark.parametrize("kind", ["integers", "texts", "floats"])
@pytest.mark.parametrize("block_bytes", [64, 1000])
def test_spooled_columns_are_those_in_memory(tmp_path: Path, kind: str, block_bytes: int) -> None:
    """Written block by block: ids that become text, times that become decimal after some blocks."""
    log = _csv(tmp_path / "log.csv", _rows(5, kind == "texts", kind == "floats"))
    source = Source(log)
    names = ColumnNames(None, None, None, None, True, "then", None, "auto", frozenset())
    layout = find_layout(source, "csv", names, True)
    place = spool.Spool(tmp_path)
    spooled, _, _ = reader.read_native(log, layout, 1, block_bytes=block_bytes, spool=place)
    table, _, _ = reader.read_native(log, layout, 1)
    assert (table.times is not None) and (table.times.dtype == np.float64) == (kind == "floats")
    for name in ("users", "items", "user_ids", "item_ids", "times", "then", "ratings"):
        _require_same(getattr(spooled, name), getattr(table, name), name)
    assert place.path("users").stat().st_size == 4 * len(table.users)


def _as_text(folder: Path) -> str:
    path = folder / "log.txt"
    path.write_text("".join(f"{u} {' '.join(str(u + n) for n in range(9))}\n" for u in range(40)))
    return str(path)


def _as_gzip(folder: Path) -> str:
    import gzip

    path = folder / "log.csv.gz"
    path.write_bytes(gzip.compress(_csv(folder / "plain.csv", _rows(1)).read_bytes()))
    return str(path)


def _as_folder(folder: Path) -> str:
    (folder / "parts").mkdir()
    for part in range(3):
        _csv(folder / "parts" / f"{part}.csv", _rows(part))
    return str(folder / "parts")


def _as_mixed_folder(folder: Path) -> str:
    """Parts with ids of two kinds, decimal times in one, no rows in another."""
    (folder / "parts").mkdir()
    for part, rows in enumerate((_rows(1), _rows(2, texts=True), [], _rows(3, floats=True))):
        _csv(folder / "parts" / f"{part}.csv", rows)
    return str(folder / "parts")


def _as_parquet(folder: Path) -> str:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (folder / "parts").mkdir()
    for part in range(3):
        columns = [np.array(column) for column in zip(*_rows(part), strict=True)]
        names = ["user", "item", "time", "rating", "then"]
        table = arrow.table(dict(zip(names, columns, strict=True)))
        parquet.write_table(table, folder / "parts" / f"{part}.parquet")
    return str(folder / "parts")


@pytest.mark.parametrize("make", [_as_text, _as_gzip, _as_folder, _as_mixed_folder, _as_parquet])
def test_other_sources(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """One line per user, a compressed file, a folder of parts."""
    config = DataConfig(data=make(tmp_path))
    prepare(config, tmp_path / "made")
    _require_equal(Dataset.from_file(tmp_path / "made"), load_dataset(config))


def test_more_goes_behind(tmp_path: Path) -> None:
    """`prepare A B` is `--data A --more B`."""
    first, second = (_csv(tmp_path / f"{n}.csv", _rows(n)) for n in range(2))
    assert main(["prepare", str(first), str(second), "--out", str(tmp_path / "made")]) == 0
    read = load_dataset(data=str(first), more=(str(second),))
    _require_equal(Dataset.from_file(tmp_path / "made"), read)


def test_training_has_the_same_bits(tmp_path: Path) -> None:
    """Two epochs on the file and on what was made of it."""
    log = _csv(tmp_path / "log.csv", _rows(7))
    prepare(DataConfig(data=str(log)), tmp_path / "made")
    weights = []
    for path in (log, tmp_path / "made"):
        model = SASRec(hidden_size=8, max_length=6)
        model.fit(Dataset.from_file(path), epochs=2, batch_size=32, threads=1, verbose=False)
        weights.append(model.state_dict())
    for name, tensor in weights[0].items():
        assert bool((tensor == weights[1][name]).all()), name


def test_a_run_of_the_file_goes_on_with_the_folder(tmp_path: Path) -> None:
    """Both are one data set to a run; its options come from the folder."""
    log, made = _csv(tmp_path / "log.csv", _rows(8)), str(tmp_path / "made")
    assert main(["prepare", str(log), "--out", made, "--dedupe", "exact"]) == 0
    small = ["--set", "hidden_size=8", "--threads", "1", "--model", "sasrec"]
    runs = [tmp_path / "file", tmp_path / "folder"]
    for run, data in zip(runs, ([str(log), "--dedupe", "exact"], [made]), strict=True):
        command = ["train", "--data", *data, "--epochs", "1", "--out", str(run), *small]
        assert main(command) == 0
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    assert configs[0]["data"]["dedupe"] == configs[1]["data"]["dedupe"] == "exact"
    assert main(["train", "--resume", str(runs[0]), "--data", made, "--epochs", "2"]) == 0
    assert main(["evaluate", str(runs[0])]) == 0
    assert main(["evaluate", str(runs[1]), "--data", made]) == 0
    assert main(["estimate", "--data", made, *small]) == 0


def test_as_another_log_it_has_no_samples(tmp_path: Path) -> None:
    """For a finished run it is a log like others."""
    log = _csv(tmp_path / "log.csv", _rows(9))
    prepare(DataConfig(data=str(log), min_user=2), tmp_path / "made")
    soft = DataConfig(data=str(tmp_path / "made"), user_col="who", holdout="none")
    found = load_other(soft, ["user", "item", "time", "names", "header", "then", "rating"])
    assert found.split.train.size == 0
    assert np.array_equal(found.log.items, Dataset.from_file(tmp_path / "made").log.items)
    with pytest.raises(InputError, match=r"prepared with user_col = None, not 'who'"):
        load_other(soft, ["item"])


def test_options_must_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was given again may be what it was made with, and nothing else."""
    log, made = _csv(tmp_path / "log.csv", _rows(2)), str(tmp_path / "made")
    prepare(DataConfig(data=str(log), min_user=3, then_by="then"), Path(made))
    assert load_dataset(data=made, min_user=3).config.then_by == "then"
    for name, value in (("min_user", 4), ("dedupe", "first"), ("holdout", "temporal")):
        with pytest.raises(InputError, match=f"prepared with {name} = "):
            load_dataset(data=made, **{name: value})
    with pytest.raises(InputError, match="--more is for prepare"):
        load_dataset(data=made, more=(str(log),))
    assert main(["train", "--data", made, "--min-user", "0"]) == 2
    assert "prepared with min_user = 3, not 0" in capsys.readouterr().err


def test_bad_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said with the remedy, and nothing is made."""
    log = _csv(tmp_path / "log.csv", _rows(2))
    made = tmp_path / "made"
    for arguments, text in (
        ([], "expected a log and a folder"),
        ([str(log)], "expected a log and a folder"),
        (["--check", str(tmp_path)], "prepared.json"),
        ([str(log), "--out", str(tmp_path)], "is there already"),
        ([str(log), "--out", str(made), "--epochs", "3"], "unknown option"),
        ([str(log), "--out", str(made), "--set", "epochs=3"], "not about reading a log"),
        ([str(log), "--out", str(made), "--min-user", "900"], "leaves no interactions"),
        ([str(tmp_path / "none.csv"), "--out", str(made)], "no such file"),
        ([str(log), "--out", str(made), "--holdout", "temporal", "--ignore-times"], "needs times"),
    ):
        assert main(["prepare", *arguments]) == 2, arguments
        assert text in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]
    prepare(DataConfig(data=str(log)), made)
    assert main(["prepare", str(made), "--out", str(tmp_path / "again")]) == 2
    assert "is prepared already" in capsys.readouterr().err


def test_bad_lines_are_said_as_ever(tmp_path: Path) -> None:
    """With their numbers, by the reader that spools."""
    log = _csv(tmp_path / "log.csv", _rows(2))
    log.write_text(log.read_text() + "1,2,x,3,4\n")
    with pytest.raises(InputError, match=r"log\.csv:\d+"):
        prepare(DataConfig(data=str(log)), tmp_path / "made")
    assert os.listdir(tmp_path) == ["log.csv"]


def _made(folder: Path) -> Path:
    prepare(DataConfig(data=str(_csv(folder / "log.csv", _rows(3, texts=True)))), folder / "made")
    return folder / "made"


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """In any file of the folder; the header says itself what it must be."""
    made = _made(tmp_path)
    for path in sorted(made.iterdir()):
        before = path.read_bytes()
        for at in {0, len(before) // 2, len(before) - 2}:
            damaged = bytearray(before)
            damaged[at] ^= 0x14
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=path.stem):
                Dataset.from_file(made)
        path.write_bytes(before)
    Dataset.from_file(made)


def test_large_files_are_compared_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opening one that is larger than `CHECKED_BYTES` reads none of it; `--check` does."""
    made = _made(tmp_path)
    monkeypatch.setattr(prepared, "CHECKED_BYTES", 16)
    items = bytearray((made / "items.bin").read_bytes())
    items[40] ^= 1
    (made / "items.bin").write_bytes(items)
    Dataset.from_file(made)
    assert main(["prepare", "--check", str(made)]) == 2
    assert "items.bin: damaged" in capsys.readouterr().err
    items[40] ^= 1
    (made / "items.bin").write_bytes(items)
    assert main(["prepare", "--check", str(made)]) == 0


@pytest.mark.parametrize("name", ["items.bin", "train_ends.bin", "user_ids_text.bin"])
def test_cut_or_missing_files(tmp_path: Path, name: str) -> None:
    """A copy that broke off."""
    made = _made(tmp_path)
    whole = (made / name).read_bytes()
    (made / name).write_bytes(whole[:-4])
    with pytest.raises(InputError, match=r"damaged \(\d+ bytes, expected \d+\): copy"):
        Dataset.from_file(made)
    (made / name).unlink()
    with pytest.raises(InputError, match="No such file"):
        Dataset.from_file(made)


def test_another_version(tmp_path: Path) -> None:
    """Refused before anything else is looked at."""
    made = _made(tmp_path)
    header = json.loads((made / "prepared.json").read_text())
    (made / "prepared.json").write_text(json.dumps({**header, "version": 2}))
    with pytest.raises(InputError, match=r"version 2, .* reads version 1: prepare the log again"):
        Dataset.from_file(made)


def test_what_is_mapped_can_be_written_by_nobody_else(tmp_path: Path) -> None:
    """A process that writes into its arrays changes neither the files nor what others see."""
    made = _made(tmp_path)
    ours, theirs = Dataset.from_file(made), Dataset.from_file(made)
    before = int(theirs.log.items[0])
    ours.log.items[0] = before + 1
    assert int(theirs.log.items[0]) == before
    assert int(Dataset.from_file(made).log.items[0]) == before


@pytest.mark.skipif(sys.platform != "linux", reason="how Linux counts memory")
def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    """It takes none, and the system is not asked to promise any."""
    size = 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with (tmp_path / "large.bin").open("w+b") as file:
        os.truncate(file.fileno(), size)
        assert prepared._map(file, "int32").nbytes == size


_SLOW = """
import sys, time
from mclrec_fast.config import DataConfig
from mclrec_fast.data import prepare
write = prepare.write_header
def slow(folder, header):
    print(folder, flush=True)
    time.sleep(60)
prepare.write_header = slow
prepare.prepare(DataConfig(data=sys.argv[1]), prepare.Path(sys.argv[2]))
"""


def test_a_kill_leaves_no_folder(tmp_path: Path) -> None:
    """Nothing under the name; what is left of the attempt goes with the next one."""
    log, made = _csv(tmp_path / "log.csv", _rows(4)), tmp_path / "made"
    command = [sys.executable, "-c", _SLOW, str(log), str(made)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = Path(process.stdout.readline().strip())
        assert begun.is_dir() and not made.exists()
        other = tmp_path / "meanwhile"
        prepare(DataConfig(data=str(log)), other)
        prepare(DataConfig(data=str(log)), tmp_path / "made2")
        assert begun.is_dir(), "somebody works in it"
        process.send_signal(signal.SIGKILL)
    assert not made.exists()
    prepare(DataConfig(data=str(log)), made)
    assert not begun.exists()
    Dataset.from_file(made)


@native
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no such call")
@pytest.mark.parametrize("room", [2000, 9000, 20_000])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, room: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a limit on the size of files: the reader, the ranges or the arrays meet it."""
    log = _csv(tmp_path / "log.csv", _rows(4) * 9)
    limited = (
        "import resource, signal, sys;"
        "from mclrec_fast.commands import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, "prepare", str(log), "--out", str(tmp_path / "made")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written (File too large); nothing of it was kept" in done.stderr
    assert os.listdir(tmp_path) == ["log.csv"]


def test_opening_takes_no_memory(tmp_path: Path) -> None:
    """Arrays are mapped, also for torch: no copy is made for training."""
    import torch

    from mclrec_fast.sampling import SampleTable

    made = _made(tmp_path)
    dataset = Dataset.from_file(made)
    table = SampleTable.of(dataset, "train", 5, torch.device("cpu"))
    assert table is not None
    assert table.items.data_ptr() == dataset.log.items.ctypes.data
    assert table.users.data_ptr() == dataset.split.train.users.ctypes.data


def test_it_can_be_moved(tmp_path: Path) -> None:
    """The folder holds all that it needs."""
    made = _made(tmp_path)
    shutil.move(made, tmp_path / "moved")
    (tmp_path / "log.csv").unlink()
    started = time.perf_counter()
    found = Dataset.from_file(tmp_path / "moved")
    assert found.log.source == str(tmp_path / "moved")
    assert time.perf_counter() - started < 5
