"""`python -m benchmarks.peers --data FILE`: SASRec here and in other libraries, on the same log.

RecBole, RecTools and RePlay, those of them that are installed in this environment (the others are
named and skipped): the same width, layers, heads, length, batch and threads, softmax over all
items, on the CPU, each in a process of its own and through its public functions alone. What is
timed is the training of one epoch behind a first one, without validation.

An epoch is not the same work everywhere: RecBole and this package predict every item of a history
from what came before it, a sample each; RecTools and RePlay predict all items of the last part of a
history in one pass, a sample a user. So read `targets_per_s`, the predictions a second.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mclrec_fast.config_keys import show
from mclrec_fast.data import Dataset, load_dataset

WIDTH, INNER, LAYERS, HEADS, LENGTH, BATCH = 64, 256, 2, 2, 50, 256
DROPOUT = 0.5


def of_ours(dataset: Dataset, epochs: int, threads: int) -> tuple[list[float], int]:
    """Seconds of each epoch, and the predictions that one learns from; so do all below."""
    from mclrec_fast import SASRec
    from mclrec_fast.training.observers import Callback

    seconds: list[float] = []

    class Clock(Callback):
        def epoch(self, record: Any) -> None:
            seconds.append(record["seconds"])

    model = SASRec(hidden_size=WIDTH, inner_size=INNER, layers=LAYERS, heads=HEADS)
    model.fit(dataset, epochs=epochs, batch_size=BATCH, threads=threads, callbacks=[Clock()],
              verbose=False)  # fmt: skip
    return seconds, len(dataset.split.train.users)


def of_recbole(dataset: Dataset, epochs: int, threads: int) -> tuple[list[float], int]:
    """RecBole's own split leaves out the last two items of a user, as ours does."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer

    folder = Path("log")
    folder.mkdir()
    users, items, times = _columns(dataset, leave_out=0)
    rows = zip(users.tolist(), items.tolist(), times.tolist(), strict=True)
    (folder / "log.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\n"
        + "".join(f"{u}\t{i}\t{t}\n" for u, i, t in rows)
    )
    config = Config(
        model="SASRec",
        dataset="log",
        config_dict={
            "data_path": str(Path.cwd()),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
            "train_neg_sample_args": None,
            "loss_type": "CE",
            "hidden_size": WIDTH,
            "inner_size": INNER,
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "MAX_ITEM_LIST_LENGTH": LENGTH,
            "train_batch_size": BATCH,
            "epochs": 1,
            "use_gpu": False,
            "state": "ERROR",
        },
    )
    train, _, _ = data_preparation(config, create_dataset(config))
    model = get_model("SASRec")(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        trainer.fit(train, saved=False, show_progress=False)
        seconds.append(time.perf_counter() - start)
    return seconds, len(train.dataset)


def of_rectools(dataset: Dataset, epochs: int, threads: int) -> tuple[list[float], int]:
    """Its SASRec; the inner layers have the widths it chooses itself."""
    import pandas as pd
    import pytorch_lightning as lightning
    from rectools import Columns
    from rectools.dataset import Dataset as Theirs
    from rectools.models import SASRecModel

    users, items, times = _columns(dataset, leave_out=2)
    frame = pd.DataFrame(
        {
            Columns.User: users,
            Columns.Item: items,
            Columns.Datetime: pd.to_datetime(times, unit="s"),
            Columns.Weight: 1.0,
        }
    )
    seconds: list[float] = []
    model = SASRecModel(
        n_blocks=LAYERS, n_heads=HEADS, n_factors=WIDTH, session_max_len=LENGTH, loss="softmax",
        dropout_rate=DROPOUT, batch_size=BATCH,
        get_trainer_func=lambda: _lightning_trainer(lightning, epochs, seconds),
    )  # fmt: skip
    model.fit(Theirs.construct(frame))
    return seconds, _targets_in_one_pass(users)


def of_replay(dataset: Dataset, epochs: int, threads: int) -> tuple[list[float], int]:
    """Its SASRec; the inner layers have the widths it chooses itself."""
    import lightning
    import pandas as pd
    from replay.data import FeatureHint, FeatureSource, FeatureType
    from replay.data.nn import (
        PandasSequentialDataset,
        TensorFeatureInfo,
        TensorFeatureSource,
        TensorSchema,
    )
    from replay.models.nn.sequential.sasrec import SasRec, SasRecTrainingDataset
    from torch.utils.data import DataLoader

    users, items, _ = _columns(dataset, leave_out=2)
    frame = pd.DataFrame({"user": users, "item": items - 1}).groupby("user")["item"]
    sequences = frame.agg(lambda of: of.to_numpy()).reset_index()
    source = TensorFeatureSource(FeatureSource.INTERACTIONS, "item")
    items_seen = TensorFeatureInfo(
        "item", FeatureType.CATEGORICAL, is_seq=True, feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[source], cardinality=dataset.log.n_classes - 1,
        padding_value=dataset.log.n_classes - 1, embedding_dim=WIDTH,
    )  # fmt: skip
    schema = TensorSchema(items_seen)
    sequential = PandasSequentialDataset(schema, "user", "item", sequences)
    loader = DataLoader(
        SasRecTrainingDataset(sequential, max_sequence_length=LENGTH), BATCH, shuffle=True
    )
    model = SasRec(
        schema, block_count=LAYERS, head_count=HEADS, hidden_size=WIDTH, max_seq_len=LENGTH,
        dropout_rate=DROPOUT, loss_type="CE",
    )  # fmt: skip
    seconds: list[float] = []
    _lightning_trainer(lightning, epochs, seconds).fit(model, loader)
    return seconds, _targets_in_one_pass(users)


PEERS: dict[str, tuple[str, str, Callable[[Dataset, int, int], tuple[list[float], int]]]] = {
    "mclrec_fast": ("mclrec_fast", "mclrec-fast", of_ours),
    "RecBole": ("recbole", "recbole", of_recbole),
    "RecTools": ("rectools", "rectools[torch]", of_rectools),
    "RePlay": ("replay", "replay-rec[torch]", of_replay),
}
"""By name: the module, what installs it, and how it trains."""


def _columns(dataset: Dataset, leave_out: int) -> tuple[Any, Any, Any]:
    """Users, items and times (places in the history) of all interactions but each user's last."""
    log = dataset.log
    counts = np.diff(log.offsets)
    users = np.repeat(np.arange(len(counts)), counts)
    times = np.arange(len(users)) - log.offsets[:-1][users]
    kept = times < (counts - leave_out)[users]
    return users[kept], log.items[kept].astype(np.int64), times[kept]


def _targets_in_one_pass(users: Any) -> int:
    """Predictions of an epoch that takes the last items of each user as one sequence."""
    return int(np.minimum(np.bincount(users) - 1, LENGTH).clip(0).sum())


def _lightning_trainer(lightning: Any, epochs: int, seconds: list[float]) -> Any:
    """A trainer that does nothing but train, and notes how long each epoch took."""

    class Clock(lightning.Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: Any) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            seconds.append(time.perf_counter() - self.start)

    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        callbacks=[Clock()],
    )  # fmt: skip


def one(name: str, data: str, epochs: int, threads: int) -> dict[str, Any]:
    """Trains one library's SASRec in this process; its figures, json-able."""
    import torch

    torch.set_num_threads(threads)
    dataset = load_dataset(data=data)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        seconds, targets = PEERS[name][2](dataset, epochs, threads)
        os.chdir("/")
    last = seconds[-1]
    return {
        "seconds_per_epoch": last,
        "targets_per_epoch": targets,
        "targets_per_s": targets / last,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def figures(name: str, data: str, epochs: int, threads: int) -> dict[str, Any]:
    """The same in a process of its own; why not, where the library is missing or fails."""
    module, package, _ = PEERS[name]
    if find_spec(module) is None:
        return {"library": name, "skipped": f"not installed: pip install '{package}'"}
    command = [sys.executable, "-m", "benchmarks.peers", "--one", name, "--data", data]
    command += ["--epochs", str(epochs), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {"library": name, "failed": reason[0]}
    version = metadata.version(package.split("[")[0]) if name != "mclrec_fast" else "this one"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"library": name, "version": version} | found


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--data", metavar="FILE", required=True, help="a log")
    parser.add_argument("--epochs", type=int, default=2, help="the last one is reported")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=PEERS, nargs="+", default=list(PEERS))
    parser.add_argument("--one", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    data = str(Path(arguments.data).resolve())
    settings = (data, arguments.epochs, arguments.threads)
    if arguments.one:
        print(json.dumps(one(arguments.one, *settings)))
        return 0
    for name in arguments.only:
        found = figures(name, *settings)
        if arguments.json:
            print(json.dumps(found), flush=True)
        else:
            print("  ".join(f"{key} {show(value)}" for key, value in found.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
