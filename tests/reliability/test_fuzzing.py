"""Random logs, random calls of the ops, random requests from several threads."""

from pathlib import Path

import pytest

from mclrec_fast import _native
from mclrec_fast.data import reader
from tests.conformance.op_case import OpCase
from tests.conformance.op_cases import OPS
from tests.small_runs import run, write_log

from .asking import ask_in_threads
from .loaders import fuzz_loader, loaders
from .ops import fuzz_op
from .readers import fuzz_readers


@pytest.mark.skipif(not reader.available(), reason="the C++ reader is not built")
def test_readers_agree(tmp_path: Path) -> None:
    counts = fuzz_readers(tmp_path, 4000)
    assert min(counts["read"], counts["with bad lines"], counts["refused before reading"]) > 250


@pytest.mark.skipif(not _native.available("cpu"), reason="the CPU kernels are not built")
@pytest.mark.parametrize("op", OPS.values())
def test_backends_agree(op: OpCase) -> None:
    counts, wrong = fuzz_op(op, 150)
    assert not wrong, f"{len(wrong)}, such as\n" + "\n".join(wrong[:5])
    assert counts["the same answer"] > 30 and counts["refused by both"] > 10


def test_threads_get_the_answers_of_one(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.txt")
    assert run(log, tmp_path / "run", "--epochs", "1", "--model", "sasrec") == 0
    assert ask_in_threads(tmp_path / "run", 150)["requests"] == 150


def test_loaders_refuse_what_is_spoilt(tmp_path: Path) -> None:
    for name, loader in loaders(tmp_path).items():
        counts = fuzz_loader(loader, tmp_path, 300)
        assert counts["refused"], name
