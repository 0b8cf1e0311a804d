"""The end of a run: the final evaluation, per-sample ranks, result.json and the table.

Everything is measured with the best weights; the popularity floor is measured beside them. Several
processes share the ranking out; the first of them writes and speaks.
"""

import io
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import _native
from ..config import Config
from ..console import Console
from ..data import Dataset
from ..evaluation import SPLITS, Ranks, measure
from ..runs.checkpoint import Progress
from ..runs.directory import RESULT, RunDirectory, write_atomically
from .interrupt import Interrupted
from .loop import Training


def final_report(
    training: Training, dataset: Dataset, config: Config, directory: RunDirectory | None
) -> dict[str, Any]:
    """Evaluates the model as it is, writes result.json and the ranks, says the table.

    Returns:
        What result.json holds.

    Raises:
        RunError: scores are not finite, or the disk is full.
        Interrupted: a signal came; the state kept before is whole.
    """
    console = training.console

    def keep(name: str, ranks: Ranks) -> None:
        if directory is not None:
            ids = dataset.log.user_ids if config.data.user_ids else None
            write_ranks(directory.path / f"{name}_ranks.npz", ranks, ids)

    def look_for_stop(done: int) -> None:
        advance(done)
        if training.stop.requested:
            raise Interrupted(
                f"interrupted in the final evaluation; {training.keeper.way_on}",
                training.stop.exit_code,
            )

    with console.progress("evaluation", held_out(dataset)) as advance:
        figures = measure(
            training.model,
            dataset,
            config.train,
            keep=keep,
            after_batch=look_for_stop,
            group=training.group,
        )
    facts = _facts(training, dataset, config, training.progress)
    result = facts | figures | {"peak_rss_mb": peak_rss_mb()}
    training.observers.ended(result)
    if directory is not None:
        directory.write_json(RESULT, result)
    say_table(result, console)
    if directory is not None:
        console.line(f"result: {directory.path / RESULT}")
    return result


def held_out(dataset: Dataset) -> int:
    """Samples that are ranked in an evaluation."""
    return sum(part.size for part in (dataset.split.valid, dataset.split.test) if part is not None)


def _facts(
    training: Training, dataset: Dataset, config: Config, progress: Progress
) -> dict[str, Any]:
    """What result.json says beside the metrics."""
    history, train = progress.history, config.train
    seconds = sum(record["seconds"] for record in history)
    samples = sum(record["samples"] for record in history)
    device = training.model.device
    return {
        "dataset": dataset.card.to_dict(),
        "model": config.model.name,
        "updates": training.step.updates_per_batch,
        "backend": _native.backend(train.backend, device),
        "device": train.device,
        "precision": train.precision,
        "threads": train.threads,
        "processes": training.group.size,
        "seed": train.seed,
        "monitor": train.monitor,
        "epochs": len(history),
        "best_epoch": progress.best_epoch,
        "steps": progress.step,
        "seconds_per_epoch": seconds / len(history) if history else None,
        "sequences_per_second": samples / seconds if seconds else None,
    }


def say_table(result: dict[str, Any], console: Console) -> None:
    """The final table: both protocols, the floor beside the model."""
    if all(result.get(name) is None for name in SPLITS):
        console.line("nothing is held out (holdout none): there are no metrics")
    for name in SPLITS:
        if result.get(name) is None:
            continue
        columns = _columns(result[name]["unmasked"])
        rows = [
            [who, protocol, *(f"{measured[protocol][metric]:.4f}" for metric in columns)]
            for protocol in ("unmasked", "masked")
            for who, measured in (
                (result["model"], result[name]),
                ("popularity floor", (result["popularity"] or {}).get(name)),
            )
            if measured is not None
        ]
        targets, epoch = result[name]["samples"], result["best_epoch"]
        title = f"{name}: full ranking, {targets} targets, best epoch {epoch}"
        console.table(title, ["model", "history", *columns], rows)
        if repeated := result[name]["repeated"]:
            console.line(
                f"note: {repeated} of {targets} targets repeat their user's history; masked, they "
                "are misses, because recommending leaves out what was seen (unless "
                "exclude_seen=False, --include-seen)"
            )


def _columns(measured: Mapping[str, float]) -> list[str]:
    """What fits a line: hit rate and NDCG at the first three cut-offs."""
    cutoffs = [name.partition("@")[2] for name in measured if name.startswith("hr@")][:3]
    return [f"{name}@{k}" for name in ("hr", "ndcg") for k in cutoffs]


def write_ranks(path: Path, ranks: Ranks, user_ids: Any) -> None:
    """Keeps every sample's rank, for significance tests between runs.

    Args:
        path: an .npz file: ``user`` (rows of the log), ``unmasked``, ``unmasked_ties``, ``masked``,
            ``masked_ties``, ``repeated``, and ``user_id`` where ids are kept.
        ranks: what to keep.
        user_ids: external ids [U], or None to keep them out.
    """
    arrays: dict[str, Any] = {
        "user": ranks.users,
        "unmasked": ranks.unmasked,
        "unmasked_ties": ranks.unmasked_ties,
        "masked": ranks.masked,
        "masked_ties": ranks.masked_ties,
        "repeated": ranks.repeated,
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
