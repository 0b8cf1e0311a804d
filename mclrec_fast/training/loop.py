"""The training loop: epochs of batches, validation, early stopping; Algorithm 1 of the paper.

What one batch does to the weights is step.py and the model's own file; where states go is keeper.py
and who is told observers.py. A run that is killed at any moment goes on from the last state with
the same bits: every random number depends on (seed, epoch, batch, update) alone.
"""

import copy
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..config import TrainConfig
from ..console import Console
from ..diagnosis.look import diagnose
from ..errors import RunError
from ..evaluation import rank_samples, summary
from ..metrics import Monitor
from ..models.base import Model, Pass
from ..parallel import Group, LostProcess
from ..runs.checkpoint import Progress
from ..sampling import SampleTable
from ..shuffling import Shuffled
from . import learning_rate
from .interrupt import Interrupted, StopRequest
from .keeper import Keeper
from .losses import LossBook, NotFinite
from .observers import Callback
from .step import TrainingStep


@dataclass
class Training:
    """One model being trained: its data, and where it stands.

    Attributes:
        model: what is trained.
        step: the updates of a batch.
        settings: how it is trained.
        train: the training samples.
        valid: the validation samples; None trains without validation to the last epoch.
        progress: where it stands; changed in place.
        keeper: where its states go.
        observers: who is told.
        console: where progress is shown.
        stop: a request to stop, looked at between batches.
    """

    model: Model
    step: TrainingStep
    settings: TrainConfig
    train: SampleTable
    valid: SampleTable | None
    progress: Progress
    keeper: Keeper
    observers: Callback
    console: Console
    stop: StopRequest

    def run(self) -> None:
        """Trains until an end: epochs, patience or max_steps. The best weights are kept then."""
        if not self.step.updates_per_batch:
            self.save_best(self.progress)
            return
        while not self.finished():
            self.train_epoch()
            if self.progress.batch < self.batches_per_epoch:
                self.end_inside_epoch()
                break
            self.end_epoch()

    @property
    def group(self) -> Group:
        """The processes that train it together."""
        return self.step.share.group

    @property
    def monitor(self) -> Monitor:
        """What better means."""
        return Monitor.parse(self.settings.monitor, self.settings.cutoffs)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch, the last partial one included."""
        return -(-len(self.train) // self.settings.batch_size)

    @property
    def steps_are_up(self) -> bool:
        """`max_steps` is reached."""
        limit = self.settings.max_steps
        return limit is not None and self.progress.step >= limit

    def finished(self) -> bool:
        """Nothing is left to train: all epochs done, patience at an end, or steps up."""
        progress, settings = self.progress, self.settings
        return (
            progress.epoch >= settings.epochs
            or (self.valid is not None and progress.stale >= settings.patience)
            or (self.steps_are_up and progress.batch == 0)
        )

    def train_epoch(self) -> None:
        """The rest of the current epoch, or of what `max_steps` leaves of it."""
        progress, settings = self.progress, self.settings
        order = Shuffled(
            len(self.train), seed=settings.seed, epoch=progress.epoch, device=self.train.device
        )
        size = settings.batch_size
        book = LossBook(progress.losses)
        self.model.train()
        name = f"epoch {progress.epoch + 1}"
        with self.console.progress(name, self.batches_per_epoch, progress.batch) as advance:
            clock = time.perf_counter()
            for first in range(progress.batch * size, len(self.train), size):
                if self.steps_are_up:
                    break
                index = order.part(first, min(first + size, len(self.train)))
                losses = self.train_batch(index)
                self.require_finite(book.add(losses, len(index), progress.step))
                self.observers.batch(progress.step, losses)
                advance(1)
                self.stop.agree(self.group)
                if self.stop.requested or self.save_is_due():
                    self.require_finite(book.read())
                    progress.seconds += time.perf_counter() - clock
                    self.save()
                    self.stop_if_requested()
                    clock = time.perf_counter()
            self.require_finite(book.read())
            progress.seconds += time.perf_counter() - clock

    def train_batch(self, index: Tensor) -> dict[str, Tensor]:
        """One step on these samples, int64 [B]; the losses by name."""
        progress, settings = self.progress, self.settings
        if learning_rate.changes(settings):
            steps = settings.epochs * self.batches_per_epoch
            self.step.set_learning_rate(learning_rate.learning_rate(settings, progress.step, steps))
        at = Pass(settings.seed, progress.step, settings.backend)
        with self.step.threads():
            batch = self.model.sample(self.train, index, at)
            losses = self.step(batch, update=progress.step * self.step.updates_per_batch)
        progress.step += 1
        progress.batch += 1
        return losses

    def end_epoch(self) -> None:
        """Validates, counts the epoch, keeps the state and the weights if they are the best."""
        progress = self.progress
        record = self.record(self.validate())
        progress.epoch += 1
        progress.batch = 0
        progress.seconds = 0.0
        progress.losses = {}
        better = self.note(progress, record)
        self.save()  # before the best weights: a state never points at weights that came later
        if better:
            self.save_best(progress)
        self.tell(record, better)

    def end_inside_epoch(self) -> None:
        """`max_steps` was reached inside an epoch: validates here, for the result only.

        The state that is kept stays that of an epoch under way, so that a resumed run with more
        steps does what a run that never stopped does; the best weights travel with it.
        """
        self.save(self.keeper.best() if self.progress.best_epoch else None)
        progress = copy.deepcopy(self.progress)
        record = self.record(self.validate())
        better = self.note(progress, record)
        if better:
            self.save_best(progress)
        self.progress = progress
        self.tell(record, better)

    def tell(self, record: Mapping[str, Any], better: bool) -> None:
        """Tells the observers of an epoch's record."""
        self.observers.epoch(record)
        if better:
            self.observers.best(record)

    def averaged(self) -> AbstractContextManager[None]:
        """While entered, the weights are those to judge and to keep: averaged, where asked for."""
        return nullcontext() if self.step.average is None else self.step.average.in_place()

    def validate(self) -> dict[str, Any] | None:
        """The validation metrics of the weights as they are; None without validation samples."""
        if self.valid is None:
            return None

        def look_for_stop(done: int) -> None:
            advance(done)
            if self.stop.requested:
                raise _Stopping

        settings = self.settings
        try:
            with (
                self.averaged(),
                self.console.progress("validation", len(self.valid)) as advance,
            ):
                ranks = rank_samples(
                    self.model,
                    self.valid,
                    batch_size=settings.eval_batch_size,
                    backend=settings.backend,
                    after_batch=look_for_stop,
                    group=self.group,
                )
        except _Stopping:
            self.save()
            self.stop_if_requested()
            raise
        except LostProcess:
            raise
        except RunError as error:
            raise RunError(f"ranking after step {self.progress.step} failed: {error}") from error
        return summary(ranks, settings.cutoffs)

    def record(self, valid: dict[str, Any] | None) -> dict[str, Any]:
        """The metrics record of the epoch under way."""
        progress = self.progress
        samples = min(progress.batch * self.settings.batch_size, len(self.train))
        return {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "samples": samples,
            "seconds": progress.seconds,
            "sequences_per_second": samples / max(progress.seconds, 1e-9),
            "precision": self.settings.precision,
            "loss": {name: total / samples for name, total in progress.losses.items()},
            "valid": valid,
            **self.diagnosis(),
        }

    def diagnosis(self) -> dict[str, Any]:
        """The geometry of the representations, as an entry of a record, where it is due."""
        every, settings = self.settings.diagnose_every, self.settings
        if not every or (self.progress.epoch + 1) % every:
            return {}
        table = self.train if self.valid is None else self.valid
        with self.averaged():
            found = diagnose(self.model, table, seed=settings.seed, backend=settings.backend)
        return {"diagnosis": found.figures}

    def note(self, progress: Progress, record: dict[str, Any]) -> bool:
        """Enters a record into the history; True if its weights are the best so far.

        Better means that the monitored metric grew by more than `min_delta`; without validation
        the latest weights are the best.
        """
        valid = record["valid"]
        value = None if valid is None else self.monitor.value(valid)
        better = (
            value is None
            or progress.best_value is None
            or value > progress.best_value + self.settings.min_delta
        )
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.best_epoch, progress.best_step = record["epoch"], record["step"]
            progress.best_value = value
        record["best_epoch"] = progress.best_epoch
        progress.history.append(record)
        return better

    def save_is_due(self) -> bool:
        """It is time for a state inside the epoch."""
        every = self.settings.checkpoint_steps
        return every is not None and self.progress.step % every == 0

    def save(self, best: Mapping[str, Tensor] | None = None) -> None:
        """Keeps the state, if it is a good one.

        Raises:
            RunError: a weight is not finite, or the disk is full; the last state stays.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.model.parameters()):
            raise RunError(
                self.not_finite_text(f"a weight is not finite after step {self.progress.step}")
            )
        self.keeper.save(self.model, self.step.state_dict(), self.progress, best)

    def save_best(self, progress: Progress, weights: Mapping[str, Tensor] | None = None) -> None:
        """Keeps the best weights: the model's, unless others are given."""
        header = {
            "epoch": progress.best_epoch,
            "step": progress.best_step,
            "monitor": str(self.monitor),
            "value": progress.best_value,
        }
        with self.averaged():
            self.keeper.save_best(weights or self.model.state_dict(), header)

    def require_finite(self, found: NotFinite | None) -> None:
        """Ends the run at a loss that is not finite; the last good state stays."""
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
            f"{what}; {self.keeper.place}; train anew with a smaller learning_rate "
            f"(now {self.settings.learning_rate:g})"
        )

    def stop_if_requested(self) -> None:
        """Leaves the run after a signal; the state is kept by now."""
        if self.stop.requested:
            raise Interrupted(
                f"interrupted at step {self.progress.step} (epoch {self.progress.epoch + 1}); "
                f"{self.keeper.way_on}",
                self.stop.exit_code,
            )


class _Stopping(Exception):
    """A signal came in the middle of a validation."""
