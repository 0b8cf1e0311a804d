"""Two processes against one: equal to the bit; runs, resuming, what is refused, who is lost."""

import gc
import itertools
import pickle
import signal
import socket
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from benchmarks import equality
from mclrec_fast import Dataset, _native
from mclrec_fast.commands import train
from mclrec_fast.config import TrainConfig
from mclrec_fast.errors import InputError
from mclrec_fast.models import model_class
from mclrec_fast.models.base import Pass
from mclrec_fast.models.encoder import Encoded
from mclrec_fast.parallel import joined
from mclrec_fast.parallel.share import ROW_WORK, spans_of
from mclrec_fast.parallel.tree import add_up, deal, subtrees
from mclrec_fast.runs import checkpoint
from mclrec_fast.sampling import SampleTable
from mclrec_fast.training.step import TrainingStep

from ..small_runs import arguments, assert_same_run, result, run, write_log
from .scenarios import Outcome

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="no gloo"
)
needs_kernels = pytest.mark.skipif(not _native.available("cpu"), reason=str(_native.why_not()))


def test_every_way_to_deal_adds_in_the_same_order() -> None:
    for parts in (1, 2, 3, 4, 7, 12):
        singles = {(n, n + 1): f"{n}" for n in range(parts)}
        whole = add_up((0, parts), singles.get, lambda a, b: f"({a}+{b})")
        for processes in range(1, parts + 1):
            known = {
                node: add_up(node, singles.get, lambda a, b: f"({a}+{b})")
                for own in deal(parts, processes)
                for node in subtrees(own, (0, parts))
            }
            assert add_up((0, parts), known.get, lambda a, b: f"({a}+{b})") == whole


def test_a_batch_is_cut_into_parts_of_equal_work() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        lengths = random.integers(1, 60, random.integers(1, 40))
        starts = [0, *np.cumsum(lengths).tolist()]
        parts = int(random.integers(1, 9))
        spans = spans_of(starts, parts)
        assert len(spans) == parts and spans[0][0] == 0 and spans[-1][1] == len(lengths)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
        if len(lengths) >= parts:
            work = [starts[end] - starts[first] + ROW_WORK * (end - first) for first, end in spans]
            assert all(end > first for first, end in spans)
            assert max(work) <= sum(work) / parts + 2 * (60 + ROW_WORK) or len(lengths) < 2 * parts


SOME = (
    "sasrec",
    "cl4srec, global",
    "mclrec, schedule official, global",
    "mclrec, schedule joint, local",
    "mclrec, schedule official, reuse_views True, global",
    "mclrec, schedule official, global, autograd",
    "gru4rec, autograd",
)


@needs_kernels
@pytest.mark.parametrize("model", ["sasrec", "cl4srec", "mclrec"])
def test_what_a_batch_of_parts_encodes_goes_with_it(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for Python to look for cycles: that took hundreds of MB on Beauty."""
    held = list[weakref.ref[torch.Tensor]]()
    encode = Encoded.by_kernels.__func__  # type: ignore[attr-defined]

    def noted(*arguments: Any, **more: Any) -> Encoded:
        found: Encoded = encode(*arguments, **more)
        held.append(weakref.ref(found.saved))
        return found

    monkeypatch.setattr(Encoded, "by_kernels", classmethod(noted))
    table = SampleTable.of(
        Dataset.named("synthetic", synthetic_users=40, synthetic_items=20),
        "train", 8, torch.device("cpu"),
    )  # fmt: skip
    assert table is not None
    trained = model_class(model)(hidden_size=8, inner_size=16, max_length=8)
    trained.start(np.arange(21), 0)
    step = TrainingStep(trained.train(), TrainConfig(batch_parts=3))
    gc.collect()
    gc.disable()
    try:
        for number in range(2):
            at = Pass(1, number, "native")
            step(trained.sample(table, torch.arange(30), at), update=number * 3)
        assert held and all(saved() is None for saved in held)
    finally:
        gc.enable()


@needs_kernels
def test_two_processes_compute_what_one_does() -> None:
    """Kernels: to the bit where batches are cut alike. Autograd: to rounding.

    Some of the cases; `python -m benchmarks.equality` has all, and more processes.
    """
    torch.set_num_threads(1)
    names = {case.name: number for number, case in enumerate(equality.CASES)}
    cases = [names[name] for name in SOME]
    first, second = equality.together(2, cases)
    for number, mine, other in zip(cases, first, second, strict=True):
        case = equality.CASES[number]
        assert equality.distance(other, mine).bits, f"{case.name}: the processes differ"
        same = equality.distance(mine, equality.train(case))
        assert same.bits or case.backend == "torch", f"{case.name}: {same}"
        if case.negatives == "local":
            continue
        plain = equality.distance(mine, equality.train(case, parts=1))
        assert plain.loss < 2e-6 and plain.gradient < 5e-6 and plain.weight < 2e-5, (
            case.name,
            plain,
        )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "log.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


TRAIN = ("--epochs", "2")
WITHOUT_KERNELS = ("--model", "sasrec", "--backend", "torch")
PARTS = {"batch_parts": 3}  # uneven for two processes


@pytest.fixture(scope="module")
def outcomes(log: Path, folder: Path) -> dict[str, tuple[Outcome, Outcome]]:
    """Several command lines, run by two processes one after the other."""
    other = write_log(folder / "other.txt", seed=1)
    assert run(log, folder / "resumed", "--epochs", "1", **PARTS) == 0
    assert run(log, folder / "uncut", "--epochs", "1") == 0
    both = {
        "two": arguments(log, folder / "two", *TRAIN, **PARTS),
        "plain": arguments(log, folder / "plain", "--epochs", "1"),
        "resumed": ["--resume", str(folder / "resumed"), *TRAIN],
        "sasrec": arguments(log, folder / "sasrec", *WITHOUT_KERNELS, *TRAIN),
        "taken": arguments(log, folder / "uncut", *TRAIN),
        "uncut": ["--resume", str(folder / "uncut"), *TRAIN],
        "few": arguments(log, folder / "none", *TRAIN, batch_size=1),
    }
    differ = {
        "data": arguments(other, folder / "none", *TRAIN),
        "setting": arguments(log, folder / "none", *TRAIN, learning_rate=0.5),
        "missing": arguments(folder / "nothing.txt", folder / "none", *TRAIN),
    }
    good = arguments(log, folder / "none", *TRAIN)
    scenarios = {name: (line, line) for name, line in both.items()}
    scenarios |= {name: (good, line) for name, line in differ.items()}
    work = folder / "work"
    work.mkdir()
    ports = {name: (equality.free_port(), lines) for name, lines in scenarios.items()}
    (work / "scenarios.pickle").write_bytes(pickle.dumps(ports))
    workers = equality.start("tests.training.scenarios", 2, str(work))
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    first, second = (
        pickle.loads((work / f"outcomes-{number}.pickle").read_bytes()) for number in (0, 1)
    )
    return {name: (Outcome(*first[name]), Outcome(*second[name])) for name in scenarios}


Outcomes = dict[str, tuple[Outcome, Outcome]]


@needs_kernels
def test_a_run_of_two_processes_is_that_of_one(outcomes: Outcomes, log: Path, folder: Path) -> None:
    first, second = outcomes["two"]
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert second.out == "" and " processes=2" in first.out
    assert run(log, folder / "one", *TRAIN, **PARTS) == 0
    assert_same_run(folder / "two", folder / "one")
    assert (result(folder / "two")["processes"], result(folder / "one")["processes"]) == (2, 1)


@needs_kernels
def test_a_run_goes_on_with_another_number_of_processes(
    outcomes: Outcomes, log: Path, folder: Path
) -> None:
    assert outcomes["resumed"][0].code == 0, outcomes["resumed"][0].err
    assert run(log, folder / "whole", *TRAIN, **PARTS) == 0
    assert_same_run(folder / "resumed", folder / "whole")
    assert outcomes["plain"][0].code == 0
    assert train.main(["--resume", str(folder / "plain"), "--epochs", "2"]) == 0
    assert run(log, folder / "plain-one", *TRAIN, batch_parts=2) == 0
    assert_same_run(folder / "plain", folder / "plain-one")


def test_a_model_without_kernels_is_trained_by_two(
    outcomes: Outcomes, log: Path, folder: Path
) -> None:
    assert outcomes["sasrec"][0].code == 0, outcomes["sasrec"][0].err
    out = folder / "sasrec-one"
    assert run(log, out, *WITHOUT_KERNELS, *TRAIN) == 0
    ours, theirs = (checkpoint.read(of / "best.safetensors")[0] for of in (folder / "sasrec", out))
    for name, weight in ours.items():
        if not name.endswith("key.bias"):  # no function of it: its gradient is rounding
            torch.testing.assert_close(weight, theirs[name], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data", "process 1 of 2 has another data (SHA-256) than process 0"),
        ("setting", "process 1 of 2 has another learning_rate than process 0: 0.5, not 0.001"),
        ("missing", "process 1 of 2: "),
        ("taken", "already holds a run"),
        ("uncut", "2 processes, but batches of 1 part(s) (batch_parts)"),
        ("few", "2 processes for batches of 1 samples (batch_size)"),
    ],
)
def test_what_will_not_do_is_said_once_and_leaves_nothing(
    outcomes: Outcomes, folder: Path, name: str, said: str
) -> None:
    first, second = outcomes[name]
    assert (first.code, second.code) == (2, 2), first.err + second.err
    assert said in first.err and first.err.count("error") == 1
    assert second.err == ""
    assert not (folder / "none").exists()


@needs_kernels
def test_a_lost_process_ends_the_others_and_the_run_goes_on(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = arguments(log, out, "--epochs", "4000", patience=4000, batch_parts=2, checkpoint_steps=3)
    with open(tmp_path / "said", "w+") as said:
        first, second = equality.start("mclrec_fast.train", 2, *line, stdout=said, stderr=said)
        try:
            while "epoch=2/" not in (tmp_path / "said").read_text():
                assert first.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.05)
            second.send_signal(signal.SIGKILL)
            assert first.wait(timeout=30) == 1
        finally:
            first.kill(), second.kill()
    text = (tmp_path / "said").read_text()
    assert "error: process 0 of 2: another process has ended" in text
    assert f"--resume {out}" in text and "Traceback" not in text
    epochs = checkpoint.load_state(out / "last.safetensors").progress.epoch + 1
    assert train.main(["--resume", str(out), "--epochs", str(epochs)]) == 0
    whole = tmp_path / "whole"
    more = {"patience": 4000, "batch_parts": 2, "checkpoint_steps": 3}
    assert run(log, whole, "--epochs", str(epochs), **more) == 0
    assert_same_run(out, whole)


def test_processes_started_again_go_on_with_the_run(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `torchrun --max-restarts` does: the same command line again."""
    out = tmp_path / "run"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert run(log, out, "--epochs", "1") == 0
    assert run(log, out, "--epochs", "2") == 2
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert run(log, out, "--epochs", "2") == 0
    assert run(log, tmp_path / "whole", "--epochs", "2") == 0
    assert_same_run(out, tmp_path / "whole")


def _meeting(monkeypatch: pytest.MonkeyPatch, port: int, number: int = 0) -> None:
    of_torchrun = {"RANK": number, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in of_torchrun.items():
        monkeypatch.setenv(name, str(value))


def test_a_port_in_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        _meeting(monkeypatch, taken.getsockname()[1])
        with pytest.raises(InputError, match=r"is in use.*--master-port"), joined("cpu", 5):
            pass


def test_somebody_who_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _meeting(monkeypatch, equality.free_port())
    with pytest.raises(InputError, match="the 2 processes did not meet"), joined("cpu", 1):
        pass


def test_a_torch_without_gloo_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _meeting(monkeypatch, 1)
    monkeypatch.setattr(distributed, "is_gloo_available", lambda: False)
    with pytest.raises(InputError, match="need gloo"), joined("cpu", 1):
        pass
