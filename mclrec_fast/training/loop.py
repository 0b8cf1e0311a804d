"""The training loop: Algorithm 1 of the paper, with validation, early stopping and saving.

What one batch does to the weights is schedules.py; where the numbers go is run_directory.py and
checkpoint.py. A run that is killed at any moment goes on from the last state with the same bits:
every random number depends on (seed, epoch, batch, update) alone.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..config import Config
from ..errors import RunError
from ..evaluation import Ranks, rank_with_encoder, summary
from ..model import Encoder, MCLRec
from ..ops import PackedSequences, augment_views, gather_sequences
from ..ops.philox import shuffle_order
from ..sampling import SampleTable
from . import checkpoint
from .checkpoint import Progress
from .console import Console, fields
from .interrupt import Interrupted, StopRequest, resume_command
from .losses import LossBook, NotFinite
from .run_directory import BEST, LAST, RunDirectory
from .schedules import TrainingStep


@dataclass
class Training:
    """One run being trained: the model, its data, and where it stands.

    Attributes:
        config: the run's configuration.
        model: what is trained.
        step: the updates of a batch.
        train: the training samples.
        valid: the validation samples; None trains without validation to the last epoch.
        progress: where it stands; changed in place.
        directory: where it is kept.
        console: what it says.
        stop: a request to stop, looked at between batches.
    """

    config: Config
    model: MCLRec
    step: TrainingStep
    train: SampleTable
    valid: SampleTable | None
    progress: Progress
    directory: RunDirectory
    console: Console
    stop: StopRequest

    def run(self) -> None:
        """Trains until an end: epochs, patience or max_steps. The best weights are on disk then."""
        while not self.finished():
            self.train_epoch()
            if self.progress.batch < self.batches_per_epoch:
                self.end_inside_epoch()
                break
            self.end_epoch()

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch, the last partial one included."""
        return -(-len(self.train) // self.config.train.batch_size)

    @property
    def steps_are_up(self) -> bool:
        """`max_steps` is reached."""
        limit = self.config.train.max_steps
        return limit is not None and self.progress.step >= limit

    def finished(self) -> bool:
        """Nothing is left to train: all epochs done, patience at an end, or steps up."""
        progress, train = self.progress, self.config.train
        return (
            progress.epoch >= train.epochs
            or (self.valid is not None and progress.stale >= train.patience)
            or (self.steps_are_up and progress.batch == 0)
        )

    def train_epoch(self) -> None:
        """The rest of the current epoch, or of what `max_steps` leaves of it."""
        progress, train = self.progress, self.config.train
        order = shuffle_order(len(self.train), seed=train.seed, epoch=progress.epoch)  # [M]
        batches = torch.split(order.to(self.train.device), train.batch_size)
        book = LossBook(progress.losses)
        self.model.train()
        name = f"epoch {progress.epoch + 1}"
        with self.console.progress(name, len(batches), progress.batch) as advance:
            clock = time.perf_counter()
            for index in batches[progress.batch :]:
                if self.steps_are_up:
                    break
                views, targets = sample_batch(
                    self.train, index, self.config, progress.step, views=self.step.uses_views
                )
                losses = self.step(
                    views, targets, update=progress.step * self.step.updates_per_batch
                )
                progress.step += 1
                progress.batch += 1
                self.require_finite(book.add(losses, len(index), progress.step))
                advance(1)
                if self.stop.requested or self.save_is_due():
                    self.require_finite(book.read())
                    progress.seconds += time.perf_counter() - clock
                    self.save()
                    self.stop_if_requested()
                    clock = time.perf_counter()
            self.require_finite(book.read())
            progress.seconds += time.perf_counter() - clock

    def end_epoch(self) -> None:
        """Validates, counts the epoch, keeps the state and the weights if they are the best."""
        progress = self.progress
        record = self.record(self.validate())
        progress.epoch += 1
        progress.batch = 0
        progress.seconds = 0.0
        progress.losses = {}
        better = self.note(progress, record)
        self.save()  # before best.safetensors: a state never points at weights that came later
        if better:
            self.save_best(progress)
        self.report(progress)

    def end_inside_epoch(self) -> None:
        """`max_steps` was reached inside an epoch: validates here, for the result only.

        The state on disk stays that of an epoch under way, so that a resumed run with more steps
        does what a run that never stopped does; the best weights travel with it.
        """
        best = None
        if self.progress.best_epoch:
            best, _ = checkpoint.read(self.directory.path / BEST)
        self.save(best)
        progress = copy.deepcopy(self.progress)
        if self.note(progress, self.record(self.validate())):
            self.save_best(progress)
        self.report(progress)
        self.progress = progress

    def validate(self) -> dict[str, Any] | None:
        """The validation metrics of the weights as they are; None without validation samples."""
        if self.valid is None:
            return None

        def look_for_stop(_done: int) -> None:
            if self.stop.requested:
                self.save()
                self.stop_if_requested()

        step = self.progress.step
        return summary(
            finite_ranks(self.model.encoder, self.valid, self.config, step, look_for_stop)
        )

    def record(self, valid: dict[str, Any] | None) -> dict[str, Any]:
        """The metrics record of the epoch under way."""
        progress = self.progress
        samples = min(progress.batch * self.config.train.batch_size, len(self.train))
        return {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "samples": samples,
            "seconds": progress.seconds,
            "sequences_per_second": samples / max(progress.seconds, 1e-9),
            "loss": {name: total / samples for name, total in progress.losses.items()},
            "valid": valid,
        }

    def note(self, progress: Progress, record: dict[str, Any]) -> bool:
        """Enters a record into the history; True if its weights are the best so far.

        Better means a strictly higher unmasked validation MRR@10; without validation the latest
        weights are the best.
        """
        valid = record["valid"]
        value = None if valid is None else float(valid["unmasked"]["mrr@10"])
        better = value is None or progress.best_value is None or value > progress.best_value
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best_epoch, progress.best_step = record["epoch"], record["step"]
            progress.best_value = value
        record["best_epoch"] = progress.best_epoch
        progress.history.append(record)
        return better

    def report(self, progress: Progress) -> None:
        """Says the latest record in one line and writes the metrics files."""
        record = progress.history[-1]
        said: dict[str, Any] = {
            "epoch": f"{record['epoch']}/{self.config.train.epochs}",
            "step": record["step"],
            **record["loss"],
            "sequences/s": f"{record['sequences_per_second']:.0f}",
            "seconds": f"{record['seconds']:.1f}",
        }
        if record["valid"] is not None:
            for name in ("mrr@10", "ndcg@10", "hr@10"):
                said[f"valid_{name}"] = record["valid"]["unmasked"][name]
            said["masked_ndcg@10"] = record["valid"]["masked"]["ndcg@10"]
            said["best_epoch"] = record["best_epoch"]
        self.console.line(fields(**said))
        self.directory.write_metrics(progress.history)

    def save_is_due(self) -> bool:
        """It is time for a state inside the epoch."""
        every = self.config.train.checkpoint_steps
        return every is not None and self.progress.step % every == 0

    def save(self, best: Mapping[str, Tensor] | None = None) -> None:
        """Writes the state, if it is a good one.

        Raises:
            RunError: a weight is not finite, or the disk is full; the last state stays.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.model.parameters()):
            raise RunError(
                self.not_finite_text(f"a weight is not finite after step {self.progress.step}")
            )
        checkpoint.save_state(
            self.directory.path / LAST, self.model, self.step.state_dict(), self.progress, best
        )

    def save_best(self, progress: Progress, weights: Mapping[str, Tensor] | None = None) -> None:
        """Writes the best weights: the model's, unless others are given."""
        header = {
            "epoch": progress.best_epoch,
            "step": progress.best_step,
            "valid_mrr@10": progress.best_value,
        }
        checkpoint.write(self.directory.path / BEST, weights or self.model.state_dict(), header)

    def require_finite(self, found: NotFinite | None) -> None:
        """Ends the run at a loss that is not finite; the last good state stays on disk."""
        if found is not None:
            raise RunError(
                self.not_finite_text(
                    f"loss {found.name} is {found.value} at step {found.step} "
                    f"(epoch {self.progress.epoch + 1})"
                )
            )

    def not_finite_text(self, what: str) -> str:
        """The message of a run that diverged."""
        return (
            f"{what}; the last good state and the best weights so far are kept in "
            f"{self.directory.path}; train anew with a smaller learning_rate "
            f"(now {self.config.train.learning_rate:g})"
        )

    def stop_if_requested(self) -> None:
        """Leaves the run after a signal; the state is saved by now."""
        if self.stop.requested:
            raise Interrupted(
                f"interrupted at step {self.progress.step} (epoch {self.progress.epoch + 1}); "
                f"the state is saved; go on with: {resume_command(self.directory.path)}",
                self.stop.exit_code,
            )


def sample_batch(
    table: SampleTable, index: Tensor, config: Config, batch: int, *, views: bool
) -> tuple[PackedSequences, Tensor]:
    """Some samples' histories with both of their views, packed, and their targets.

    Args:
        table: the samples.
        index: int64 [B], sample numbers.
        config: the augmentation, the seed and the backend.
        batch: number of the batch, which makes its random choices its own.
        views: False packs the histories alone.

    Returns:
        3B sequences (B without views); targets int64 [B].
    """
    starts, lengths, targets = table.batch(index)
    length, backend = table.max_length, config.train.backend
    if not views:
        packed = gather_sequences(table.items, starts, lengths, max_length=length, backend=backend)
        return packed, targets
    packed = augment_views(
        table.items,
        starts,
        lengths,
        max_length=length,
        crop_ratio=config.augment.crop_ratio,
        mask_ratio=config.augment.mask_ratio,
        reorder_ratio=config.augment.reorder_ratio,
        seed=config.train.seed,
        batch=batch,
        backend=backend,
    )
    return packed, targets


def finite_ranks(
    encoder: Encoder,
    table: SampleTable,
    config: Config,
    step: int,
    after_batch: Callable[[int], None],
) -> Ranks:
    """Ranks by the encoder; scores that are not finite end the run.

    Raises:
        RunError: naming the step.
    """
    try:
        return rank_with_encoder(
            encoder,
            table,
            batch_size=config.train.eval_batch_size,
            backend=config.train.backend,
            after_batch=after_batch,
        )
    except ValueError as error:
        raise RunError(f"ranking after step {step} failed: {error}") from error
