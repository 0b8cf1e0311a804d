"""The end of a run: the final evaluation, per-sample ranks, result.json and the table.

Everything is measured with the best weights; the popularity floor is measured beside them, by the
same ranking.
"""

import io
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Config
from ..evaluation import Ranks, popularity, rank_by_scores, summary
from ..sampling import SampleTable
from . import checkpoint
from .checkpoint import Progress
from .console import Console
from .interrupt import Interrupted, resume_command
from .loop import Training, finite_ranks
from .run_data import SPLITS, RunData
from .run_directory import BEST, RESULT, RunDirectory, write_atomically

TABLE_METRICS = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr@10")
Rank = Callable[[SampleTable], Ranks]


def final_report(training: Training, data: RunData, backend: str) -> dict[str, Any]:
    """Evaluates the best weights, writes result.json and the ranks, says the table.

    Returns:
        What result.json holds.

    Raises:
        RunError: scores are not finite, or the disk is full.
        Interrupted: a signal came; the state saved before is whole.
    """
    config, path = training.config, training.directory.path
    weights, _ = checkpoint.read(path / BEST)
    checkpoint.load_weights(training.model, weights, str(path / BEST))

    def look_for_stop(_done: int) -> None:
        if training.stop.requested:
            raise Interrupted(
                "interrupted in the final evaluation; the trained state is saved; "
                f"go on with: {resume_command(path)}",
                training.stop.exit_code,
            )

    def rank(table: SampleTable) -> Ranks:
        step = training.progress.best_step
        return finite_ranks(training.model.encoder, table, config, step, look_for_stop)

    facts = _facts(config, data, backend, training.progress)
    device = training.train.device
    return _report(facts, rank, config, data, device, training.directory, training.console)


def popularity_report(
    config: Config, data: RunData, device: torch.device, directory: RunDirectory, console: Console
) -> dict[str, Any]:
    """The whole of a run of the popularity floor, which has nothing to train."""
    scores = popularity(data.log, data.split.train)
    header = {"epoch": 0, "step": 0, "valid_mrr@10": None}
    weights = {"popularity": torch.from_numpy(scores)}
    checkpoint.write(directory.path / BEST, weights, header)
    rank = partial(rank_by_scores, scores, batch_size=config.train.eval_batch_size)
    facts = _facts(config, data, "torch", Progress())
    return _report(facts, rank, config, data, device, directory, console)


def _facts(config: Config, data: RunData, backend: str, progress: Progress) -> dict[str, Any]:
    """What result.json says beside the metrics."""
    history = progress.history
    seconds = sum(record["seconds"] for record in history)
    samples = sum(record["samples"] for record in history)
    return {
        "dataset": data.card,
        "model": config.model.model,
        "schedule": config.train.schedule,
        "backend": backend,
        "device": config.train.device,
        "threads": config.train.threads,
        "seed": config.train.seed,
        "epochs": len(history),
        "best_epoch": progress.best_epoch,
        "steps": progress.step,
        "seconds_per_epoch": seconds / len(history) if history else None,
        "sequences_per_second": samples / seconds if seconds else None,
    }


def _report(
    facts: dict[str, Any],
    rank: Rank,
    config: Config,
    data: RunData,
    device: torch.device,
    directory: RunDirectory,
    console: Console,
) -> dict[str, Any]:
    """Measures, writes and says everything."""

    def keep(name: str, ranks: Ranks) -> None:
        write_ranks(directory.path / f"{name}_ranks.npz", ranks, data.kept_user_ids)

    result = facts | measure(rank, config, data, device, keep)
    result["peak_rss_mb"] = peak_rss_mb()
    directory.write_json(RESULT, result)
    say_table(result, console)
    console.line(f"result: {directory.path / RESULT}")
    return result


def measure(
    rank: Rank,
    config: Config,
    data: RunData,
    device: torch.device,
    keep: Callable[[str, Ranks], None] = lambda _name, _ranks: None,
) -> dict[str, Any]:
    """The metrics of a model and of the popularity floor, on validation and test.

    Args:
        rank: ranks the targets of a sample table.
        config: the run's configuration.
        data: its data.
        device: where to rank.
        keep: receives each split's name and ranks.

    Returns:
        `valid` and `test` (None where the split has none), and `popularity` with the same.
    """
    scores = popularity(data.log, data.split.train)
    result: dict[str, Any] = dict.fromkeys(SPLITS)
    floor: dict[str, Any] = dict.fromkeys(SPLITS)
    for name in SPLITS:
        table = data.table(name, config.model.max_length, device)
        if table is None:
            continue
        ranks = rank(table)
        keep(name, ranks)
        result[name] = summary(ranks)
        batch_size = config.train.eval_batch_size
        floor[name] = summary(rank_by_scores(scores, table, batch_size=batch_size))
    return result | {"popularity": floor}


def say_table(result: dict[str, Any], console: Console) -> None:
    """The final table: both protocols, the floor beside the model."""
    for name in SPLITS:
        if result.get(name) is None:
            continue
        rows = [
            [who, protocol, *(f"{measured[protocol][metric]:.4f}" for metric in TABLE_METRICS)]
            for protocol in ("unmasked", "masked")
            for who, measured in (
                (result["model"], result[name]),
                ("popularity floor", result["popularity"][name]),
            )
        ]
        targets, epoch = result[name]["samples"], result["best_epoch"]
        title = f"{name}: full ranking, {targets} targets, best epoch {epoch}"
        console.table(title, ["model", "history", *TABLE_METRICS], rows)


def write_ranks(path: Path, ranks: Ranks, user_ids: Any) -> None:
    """Keeps every sample's rank, for significance tests between runs.

    Args:
        path: an .npz file: ``user`` (rows of the log), ``unmasked``, ``unmasked_ties``, ``masked``,
            ``masked_ties``, and ``user_id`` where ids are kept.
        ranks: what to keep.
        user_ids: external ids [U], or None to keep them out.
    """
    arrays: dict[str, Any] = {
        "user": ranks.users,
        "unmasked": ranks.unmasked,
        "unmasked_ties": ranks.unmasked_ties,
        "masked": ranks.masked,
        "masked_ties": ranks.masked_ties,
    }
    if user_ids is not None:
        ids = user_ids[ranks.users]
        arrays["user_id"] = ids.astype(np.str_) if ids.dtype == object else ids
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())


def peak_rss_mb() -> float:
    """The most memory this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
