"""Damaged files: every single bit of every file of a run flipped is noticed, or changes nothing.

In this process, with the functions that the commands use to read each file.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mclrec_fast.comparison import read_ranks
from mclrec_fast.data import load_ids
from mclrec_fast.errors import InputError
from mclrec_fast.recommender import Recommender
from mclrec_fast.runs import checkpoint

REPORTS = {"train.log", "env.json", "metrics.jsonl", "metrics.csv", "result.json", "run.lock"}
"""Files that tell a person what happened; nothing is computed from them."""


def served(run: Path) -> Any:
    """What the run answers, and whose ids it knows."""
    recommender = Recommender.load(run)
    known = recommender.item_ids.tolist()
    found = recommender.recommend([known[:3], known[-4:-1]], 5)
    users = load_ids(run).user_ids
    return found.items, found.scores, known, None if users is None else users.tolist()


def weights(run: Path) -> Any:
    """The best weights and when they were reached."""
    tensors, header = checkpoint.read(run / "best.safetensors")
    return header, {name: x.numpy().tobytes() for name, x in tensors.items()}


def state(run: Path) -> Any:
    """Everything that a resumed run goes on from."""
    found = checkpoint.load_state(run / "last.safetensors")
    tensors: dict[str, torch.Tensor] = {}
    trees = [found.model, found.optimizers, found.best]
    packed = [checkpoint.pack(tree, tensors, str(i)) for i, tree in enumerate(trees)]
    return packed, {n: x.numpy().tobytes() for n, x in tensors.items()}, found.progress, found.run


def ranks(split: str) -> Callable[[Path], Any]:
    """What `compare` reads of a run."""

    def read(run: Path) -> Any:
        found = read_ranks(run, split)
        return [np.asarray(x).tolist() for x in (found.users, found.unmasked, found.masked)]

    return read


READS: dict[str, Callable[[Path], Any]] = {
    "config.json": served,
    "data.json": served,
    "item_ids.npz": served,
    "user_ids.npz": served,
    "best.safetensors": weights,
    "last.safetensors": state,
    "valid_ranks.npz": ranks("valid"),
    "test_ranks.npz": ranks("test"),
}


def flip_bits(run: Path, every: int = 1, first: int = 0) -> Counter[str]:
    """Flips every `every`-th bit, from `first` on, one at a time; the run is whole afterwards."""
    counts: Counter[str] = Counter()
    there = {path.name for path in run.iterdir()}
    assert there == READS.keys() | REPORTS, "a file that no one flips"
    for name, read in READS.items():
        content = (run / name).read_bytes()
        expected = read(run)
        with open(run / name, "r+b", buffering=0) as file:
            for bit in range(first, 8 * len(content), every):
                at, mask = bit >> 3, 1 << (bit & 7)
                _put(file, at, content[at] ^ mask)
                try:
                    same = read(run) == expected
                    counts[f"{name}: {'no difference' if same else 'ANOTHER RESULT'}"] += 1
                    assert same, f"{name}, bit {bit}: accepted, with another result"
                except InputError as error:
                    assert name in str(error) or str(run) in str(error), error
                    counts[f"{name}: noticed"] += 1
                except AssertionError:
                    raise
                except Exception as error:
                    raise AssertionError(f"{name}, bit {bit}: {error!r}") from error
                finally:
                    _put(file, at, content[at])
    return counts


def _put(file: Any, at: int, value: int) -> None:
    file.seek(at)
    file.write(bytes([value]))
