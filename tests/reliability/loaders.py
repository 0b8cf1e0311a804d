"""Every loader under fuzz: damaged content gives an answer or an `InputError`, nothing else.

`mutate` spoils good files at random; guided.py looks for inputs that reach new code.
"""

import gzip
import importlib.util
import io
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save

from mclrec_fast import config as configuration
from mclrec_fast.commands.import_checkpoint import read_state_dict
from mclrec_fast.comparison import read_ranks
from mclrec_fast.config import DataConfig
from mclrec_fast.data import load_ids
from mclrec_fast.data.dataset import load_dataset, load_other
from mclrec_fast.data.prepare import prepare
from mclrec_fast.data.stream import open_histories
from mclrec_fast.data.vectors import read_vectors
from mclrec_fast.errors import InputError
from mclrec_fast.runs import checkpoint
from mclrec_fast.runs.loading import read_card, read_config
from tests.small_runs import quiet_run, write_log


class Loader(NamedTuple):
    """A function of a file's path, and good contents of that file."""

    file: str
    load: Callable[[Path], Any]
    seeds: list[bytes]


def log_of(path: Path) -> Any:
    return load_other(DataConfig(data=str(path), holdout="none"), threads=1)


def histories_of(path: Path) -> Any:
    opened = open_histories(DataConfig(data=str(path), holdout="none"), (), 1)
    return opened.histories and list(opened.histories.parts())


def prepared_of(path: Path) -> Any:
    return load_dataset(data=str(path.parent)).log.items.sum()


PARQUET = importlib.util.find_spec("pyarrow") is not None


def parquet_of(log: Path) -> bytes:
    """The rows of a log as parquet."""
    import pyarrow
    import pyarrow.parquet

    found, content = load_other(DataConfig(data=str(log)), threads=1).log, io.BytesIO()
    users = np.repeat(np.arange(found.n_users), np.diff(found.offsets))
    table = pyarrow.table({"user": users, "item": found.items.astype(str), "time": found.items})
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


def checkpoint_of_the_authors(legacy: bool) -> bytes:
    """A file as torch saves it, in its present or its former format."""
    content = io.BytesIO()
    state = {"item_embedding.weight": torch.ones(4, 2), "position_embedding.weight": torch.ones(3)}
    torch.save(
        {"state_dict": state, "epoch": 3}, content, _use_new_zipfile_serialization=not legacy
    )
    return content.getvalue()


def loaders(folder: Path) -> dict[str, Loader]:
    """All of them, with seeds from a small run made in `folder`."""
    log = write_log(folder / "seed.txt", users=12, items=8)
    made = folder / "seed-run"
    if not made.exists():
        assert quiet_run(log, made, "--epochs", "1", "--model", "sasrec") == 0
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    again, prepared, other = (folder / name for name in ("again", "prepared", "other"))
    if not other.exists():
        shutil.copytree(made, again)
        prepare(DataConfig(data=str(log)), prepared)
        shutil.copytree(prepared, other)
    whole = {path.name: path.read_bytes() for path in prepared.iterdir()}
    toml = b'[train]\nepochs = 3\n[model]\nname = "sasrec"\nhidden_size = 8\n'
    table = b"user_id,item_id,timestamp\n1,2,3\n1,4,5\n2,2,2020-01-01\n"
    good = b"user_id,item_id,timestamp\n1,2,3\n1,4,5\n2,2,6\n"
    ids, vectors = np.arange(3), np.ones((3, 2), np.float32)
    arrays, array = io.BytesIO(), io.BytesIO()
    np.savez(arrays, ids=ids, vectors=vectors)
    np.save(array, vectors)
    (folder / "ids.txt").write_text("1\n2\n3\n")
    lines = b'{"user": 1, "history": [2, 3]}\n{"user": "a", "history": []}\n'
    tensors = save({"ids": ids, "vectors": vectors})
    more = {"parquet": Loader("log.parquet", log_of, [parquet_of(log)])} if PARQUET else {}
    return more | {
        "gzip": Loader("log.csv.gz", log_of, [gzip.compress(good), gzip.compress(good) * 2]),
        "histories": Loader("histories.jsonl", histories_of, [lines]),
        "ranks": Loader(
            "again/test_ranks.npz",
            lambda p: read_ranks(p.parent, "test"),
            [files["test_ranks.npz"]],
        ),
        "prepared": Loader("prepared/prepared.json", prepared_of, [whole["prepared.json"]]),
        "prepared items": Loader("other/items.bin", prepared_of, [whole["items.bin"]]),
        "npz vectors": Loader("v.npz", lambda p: read_vectors(str(p)), [arrays.getvalue()]),
        "npy vectors": Loader(
            "v.npy",
            lambda p: read_vectors(str(p), str(p.with_name("ids.txt"))),
            [array.getvalue()],
        ),
        "vectors": Loader("v.safetensors", lambda p: read_vectors(str(p)), [tensors]),
        "text vectors": Loader(
            "v.txt", lambda p: read_vectors(str(p)), [b"2 3\na .1 .2 3\nb 1 0 -1e3\n"]
        ),
        "config": Loader("config.json", lambda p: read_config(p.parent), [files["config.json"]]),
        "card": Loader("data.json", lambda p: read_card(p.parent), [files["data.json"]]),
        "weights": Loader("best.safetensors", checkpoint.read, [files["best.safetensors"]]),
        "state": Loader("last.safetensors", checkpoint.load_state, [files["last.safetensors"]]),
        "ids": Loader("item_ids.npz", lambda p: load_ids(p.parent), [files["item_ids.npz"]]),
        "toml": Loader("keys.toml", configuration.read_toml, [toml]),
        "table": Loader("log.csv", log_of, [table]),
        "text": Loader("log.txt", log_of, [log.read_bytes()[:200]]),
        "torch": Loader("model.pth", read_state_dict, [checkpoint_of_the_authors(False)]),
        "former torch": Loader("old.pth", read_state_dict, [checkpoint_of_the_authors(True)]),
    }


def attempt(loader: Loader, folder: Path, content: bytes) -> str:
    """One content: read, or refused."""
    path = folder / loader.file
    path.write_bytes(content)
    try:
        loader.load(path)
    except InputError as error:
        assert str(path) in str(error) or loader.file in str(error), f"names no file: {error}"
        return "refused"
    return "read"


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Good content with one to four spoilt places."""
    spoilt = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(spoilt) + 1)
        to = min(len(spoilt), at + chance.choice([0, 1, 1, 1, 4, 8, 64, len(spoilt)]))
        spoilt[at:to] = chance.choice(
            [
                b"",
                bytes(to - at),
                bytes(chance.randrange(256) for _ in range(to - at)),
                bytes(x ^ (1 << chance.randrange(8)) for x in spoilt[at:to]),
                spoilt[at:to] * 2,
                chance.choice([b"\xff" * 8, b"9" * 400, b"[" * 2000, b"null", b"-1", b"1e999"]),
            ]
        )
    return bytes(spoilt)


def fuzz_loader(loader: Loader, folder: Path, number: int, seed: int = 0) -> Counter[str]:
    """So many spoilt files."""
    counts: Counter[str] = Counter()
    for case in range(seed, seed + number):
        chance = random.Random(case)
        content = mutate(chance.choice(loader.seeds), chance)
        try:
            counts[attempt(loader, folder, content)] += 1
        except Exception as error:
            kept = folder / f"case-{case}"
            kept.write_bytes(content)
            raise AssertionError(f"{loader.file}, case {case}: {error!r}") from error
    return counts
