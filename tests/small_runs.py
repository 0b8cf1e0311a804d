"""A small log and small settings, so that a whole run takes a second; and how to compare runs."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mclrec_fast.commands import train
from mclrec_fast.config import keys_of
from mclrec_fast.runs import checkpoint

SETTINGS = {
    "hidden_size": 8,
    "inner_size": 16,
    "heads": 2,
    "layers": 2,
    "max_length": 10,
    "batch_size": 64,
    "beta": 0.1,
    "lambda": 0.1,
}
TIMES = ("seconds", "sequences_per_second")


def write_log(path: Path, users: int = 60, items: int = 30, seed: int = 0) -> Path:
    """A text log of random walks; user u's line starts with u + 100."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(users):
        start, length = rng.integers(items), rng.integers(5, 14)
        walk = (start + np.cumsum(rng.integers(1, 4, length))) % items + 1
        lines.append(" ".join(map(str, [user + 100, *walk])))
    path.write_text("\n".join(lines) + "\n")
    return path


def arguments(log: Path, out: Path, *more: str, **settings: Any) -> list[str]:
    """The command line of a small run."""
    model = more[more.index("--model") + 1] if "--model" in more else "mclrec"
    chosen = {k: v for k, v in SETTINGS.items() if k in keys_of(model)} | settings
    sets = [f"--set={key}={value}" for key, value in chosen.items()]
    return ["--data", str(log), "--out", str(out), "--threads", "1", *sets, *more]


def run(log: Path, out: Path, *more: str, **settings: Any) -> int:
    """Trains a small run in this process; the exit code."""
    return train.main(arguments(log, out, *more, **settings))


def quiet_run(log: Path, out: Path, *more: str) -> int:
    """The same without a word on standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        return run(log, out, *more)


def metrics(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock wrote."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def result(run: Path) -> dict[str, Any]:
    """result.json."""
    loaded: dict[str, Any] = json.loads((run / "result.json").read_text())
    return loaded


def assert_same_run(a: Path, b: Path) -> None:
    """Metrics, weights, optimizer states and ranks are equal to the bit."""
    iterative = (a / "metrics.jsonl").exists()
    if iterative:
        assert metrics(a) == metrics(b)
    for name in ("best.safetensors", "last.safetensors"):
        if name == "last.safetensors" and not iterative:
            continue  # a model without updates has no state
        ours, theirs = checkpoint.read(a / name)[0], checkpoint.read(b / name)[0]
        assert ours.keys() == theirs.keys()
        for key, tensor in ours.items():
            assert torch.equal(tensor, theirs[key]), f"{name}: {key}"
    for split in ("valid", "test"):
        assert result(a)[split] == result(b)[split]
        with np.load(a / f"{split}_ranks.npz") as ours, np.load(b / f"{split}_ranks.npz") as theirs:
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
