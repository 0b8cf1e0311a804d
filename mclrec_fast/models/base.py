"""What a model is: weights, a batch, the updates of a batch; and what one can do with it.

A model file fills in `build`, `represent`, `items` and `updates`; training, evaluation, answering
and saving are the same for all. A model has no weights until `fit` or `load` has shown it a
catalogue. The training loop itself is training/, ranking evaluation.py, run directories runs/.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import _native
from ..config import DEFAULT_K, options_from
from ..errors import InputError
from ..ops import PackedSequences, gather_sequences
from ..parallel import WHOLE, Place, Share
from ..sampling import SampleTable
from .memory import require_memory
from .options import ModelOptions
from .stock import stock, what_was_changed
from .table_gradient import TableGradient

if TYPE_CHECKING:
    from ..answers import Recommendations
    from ..data import Dataset
    from ..exporting.export import Exported
    from ..recommender import Recommender
    from ..training.observers import Callback

Losses = dict[str, Tensor]
"""The terms of an objective by name, scalars; `total` is what an update minimises."""


class Pass(NamedTuple):
    """One pass through a model: which random draws it makes, and who computes it.

    Attributes:
        seed: the 64-bit key of all draws.
        update: which update of the training (which batch, where views are drawn); a number, or an
            int64 scalar on the device.
        backend: "auto", "torch" or "native", see `ops`.
        share: how batches are dealt to processes, and their results added up.
        place: where the samples at hand stand in their batch; None where they are all of it.
        table: the item table's gradient of the updates before, for losses that touch few rows of
            it; None where every update makes its own.
    """

    seed: int = 0
    update: int | Tensor = 0
    backend: str = "auto"
    share: Share = WHOLE
    place: Place | None = None
    table: TableGradient | None = None

    def rows(self, packed: PackedSequences) -> Tensor | None:
        """What the draws of each sequence are addressed by, see `ops.encode`."""
        sequences = len(packed.offsets) - 1
        return None if self.place is None else self.place.rows(sequences, packed.offsets.device)


class Origin(NamedTuple):
    """The run that a model's weights are of.

    Attributes:
        run: its identity.
        path: its directory; "" where nothing was kept.
        optimizers: the state of its optimizers, for who wants to carry it on.
    """

    run: str
    path: str
    optimizers: Callable[[], dict[str, Any]]


class Batch(NamedTuple):
    """What one training step sees: B histories, for some models with two views of each behind."""

    sequences: PackedSequences  # B or 3B rows: histories, first views, second views
    targets: Tensor  # int64 [B]

    def histories(self) -> PackedSequences:
        """The histories without their views (B rows)."""
        return self.sequences.rows(0, len(self.targets))

    def views(self) -> PackedSequences:
        """The first views of all histories, then the second (2B rows)."""
        size = len(self.targets)
        return self.sequences.rows(size, 3 * size)

    def of_samples(self, first: int, end: int) -> "Batch":
        """Some of the samples, first .. end, with their views, as a batch of their own."""
        size, sequences = len(self.targets), self.sequences
        kinds = (len(sequences.offsets) - 1) // size
        runs = [sequences.rows(kind * size + first, kind * size + end) for kind in range(kinds)]
        lengths = torch.cat([run.lengths for run in runs])
        offsets = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
        real = [int(run.offsets[-1]) for run in runs]
        items = torch.cat([run.items[:n] for run, n in zip(runs, real, strict=True)])
        positions = torch.cat([run.positions[:n] for run, n in zip(runs, real, strict=True)])
        return Batch(PackedSequences(items, positions, offsets), self.targets[first:end])


class Moments(NamedTuple):
    """What Adam keeps of a group of weights, for a kernel that moves them itself.

    Attributes:
        tensors: means of the gradients, then of their squares, then the number of steps.
        learning_rate: the step size.
        constants: beta 1, beta 2 and epsilon.
    """

    tensors: list[Tensor]
    learning_rate: float
    constants: tuple[float, float, float]


class Update(NamedTuple):
    """One move of some weights down an objective.

    Attributes:
        name: what its loss is called.
        groups: which groups of weights move, see `Model.groups`.
        objective: the losses, for autograd to differentiate.
        by_hand: the same losses, detached, with a gradient of every weight of the groups in their
            order, by kernels; None where a model has no such path.
        in_one: the whole update in one call that moves the weights, too, given the moments of each
            group: for a batch in one part, all weights moving. None where there is no such call.
    """

    name: str
    groups: tuple[str, ...]
    objective: Callable[[Batch, Pass], Losses]
    by_hand: Callable[[Batch, Pass], tuple[Losses, list[Tensor]]] | None = None
    in_one: Callable[[Batch, Pass, list[Moments]], Losses] | None = None


@stock
class Model(nn.Module):
    """A sequential recommender.

    Attributes:
        options: what it is; fixed when it is made.
        item_ids: external item ids [V], entry 0 for padding; None before `fit` or `load`.
    """

    Options: ClassVar[type[ModelOptions]]
    kernels: ClassVar[tuple[str, ...]] = ()
    """Operators that its updates by hand call."""
    only_for_training: ClassVar[tuple[str, ...]] = ()
    """Prefixes of weights that ranking does not need."""
    iterative: ClassVar[bool] = True
    """Whether it is trained by updates, batch by batch."""
    needs_history: ClassVar[bool] = True
    """Whether it can answer only those who have a history."""

    def __init__(self, options: ModelOptions | None = None, /, **changes: Any) -> None:
        """Make a model of the default options, changed by name, or of given options.

        Raises:
            TypeError: an option that the model does not have, or options of another model.
            InputError: a value of a wrong type or out of range.
        """
        super().__init__()
        if options is None:
            options = options_from(self.Options, changes, type(self).__name__)
        elif changes or not isinstance(options, self.Options):
            raise TypeError(
                f"{type(self).__name__} takes one {self.Options.__name__}, or options by name, "
                f"not {options!r}" + (" and both" if changes else "")
            )
        self.options = options
        self.item_ids: NDArray[Any] | None = None
        self._recommender: Recommender | None = None
        self._came_from: Origin | None = None

    # What a model file fills in.

    def build(self, n_classes: int) -> None:
        """Create the weights for `n_classes` item classes, padding id 0 included (V)."""
        raise NotImplementedError

    def represent(self, packed: PackedSequences, at: Pass) -> Tensor:
        """The representation of each sequence, [S, D]; dropout is active in training mode only."""
        raise NotImplementedError

    def items(self) -> Tensor:
        """What a representation is multiplied with to score every item, [V, D]."""
        raise NotImplementedError

    def updates(self) -> list[Update]:
        """What a batch does to the weights, in order; none where there is nothing to train."""
        raise NotImplementedError

    # What a model file may change.

    def learn(self, dataset: "Dataset") -> None:
        """Learn what no gradient is needed for, once, before the first batch."""

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The weights by optimizer: each group has one of its own."""
        return {"encoder": list(self.parameters())}

    def sample(self, table: SampleTable, index: Tensor, at: Pass) -> Batch:
        """The batch of some samples, int64 [B]; `at.update` is the number of the batch."""
        starts, lengths, targets = table.batch(index)
        length = table.max_length
        packed = gather_sequences(
            table.items, starts, lengths, max_length=length, backend=at.backend
        )
        return Batch(packed, targets)

    def views(self, batch: Batch, at: Pass) -> dict[str, Tensor]:
        """What the model contrasts, for looking at: the views of a batch by name, [B, D] each.

        `h1` and `h2` are the encoded views of each history, `z1` and `z2` what learned augmenters
        make of them; none where a model contrasts nothing.
        """
        return {}

    def represent_slices(self, items: Tensor, starts: Tensor, lengths: Tensor, at: Pass) -> Tensor:
        """The representations [B, D] of slices of `items`, at most L items long."""
        length = min(self.options.max_length, max(len(items), 1))
        packed = gather_sequences(items, starts, lengths, max_length=length, backend=at.backend)
        return self.represent(packed, at)

    # What holds for every model.

    @property
    def n_classes(self) -> int:
        """Item classes, padding included (V)."""
        return len(self.items())

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.items().device

    def start(self, item_ids: NDArray[Any], seed: int) -> None:
        """Meet a catalogue: the initial weights of this seed, the same on every device.

        Args:
            item_ids: external item ids [V], entry 0 for padding.
            seed: of the initial weights.

        Raises:
            InputError: the weights would not fit into the memory of this machine.
        """
        require_memory(type(self)(self.options), len(item_ids))
        # torch's generator belongs to the process: other threads that start wait for their turn.
        with _STARTING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.build(len(item_ids))
        self.item_ids = item_ids
        self._built = [name for name, _ in self.named_parameters()]

    def by_hand(self, backend: str) -> tuple[bool, str | None]:
        """Whether kernels alone can make its updates on this backend, and what to say if not.

        A model that was changed is trained through autograd over the code that it really has.
        """
        if not self.kernels or _native.backend(backend, self.device) != "native":
            return False, None
        if not all(_native.has_kernel(op, self.device) for op in self.kernels):
            return False, None
        changed = what_was_changed(self, self._built)
        if changed is None:
            return True, None
        return False, f"trained through autograd, slower than by the kernels' gradients: {changed}"

    def fit(
        self,
        dataset: "Dataset",
        *,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Sequence["Callback"] = (),
        verbose: bool = True,
        **training: Any,
    ) -> Self:
        """Train on a data set; afterwards the model holds its best weights.

        A model that has weights already, from an earlier `fit` or from `load`, goes on from them.

        Args:
            dataset: what to learn from, validate on and test on.
            run: a directory to keep the run in, as the command line does; None keeps nothing.
            resume: go on with the run in that directory, to the bits of one that never stopped.
            callbacks: told of what happens, see `training.observers.Callback`.
            verbose: say lines and show progress on stdout.
            training: the settings of `config.TrainConfig` by name: `epochs`, `batch_size`,
                `learning_rate`, `seed`, `monitor`, `patience`, `backend`, `threads`, ...

        Returns:
            The model itself.

        Raises:
            TypeError: a setting that does not exist, with the nearest one that does.
            InputError: a bad value, a data set with nothing to train on, or with other items than
                the model knows; a directory that holds another run.
            RunError: the training failed, or a callback did; the last good weights are kept.
            KeyboardInterrupt: it was interrupted; the best weights so far are kept.
        """
        from ..training.fit import fit_in_python

        fit_in_python(self, dataset, run, resume, callbacks, verbose, training)
        return self

    def fit_partial(
        self,
        data: Any,
        *,
        optimizer: str = "reset",
        run: str | os.PathLike[str] | None = None,
        callbacks: Sequence["Callback"] = (),
        verbose: bool = True,
        **options: Any,
    ) -> Self:
        """Train on, on a log with new users and new items; see `training.further`.

        The catalogue only grows: items that the model knows keep their rows, whatever their order
        in the log, and the rows of new items come behind. A run that is kept goes on by
        `fit(dataset, run=..., resume=True)` of a new model.

        Args:
            data: a data set, or a frame to make one of; the whole log, or what is new of it.
            optimizer: "reset" begins with new moments, "carry" with those of the training that the
                model came from (zero for new rows).
            run: a directory to keep the run in, with what it came from; None keeps nothing.
            callbacks: see `fit`.
            verbose: see `fit`.
            options: settings of the training as in `fit`; for a frame, the fields of `DataConfig`
                (user_col, item_col, ...), too.

        Returns:
            The model itself.

        Raises:
            InputError: the model has no weights yet, or knows none of the items; there is nothing
                to carry; and what `fit` raises.
        """
        from ..training.further import fit_partial

        fit_partial(self, data, optimizer, run, callbacks, verbose, options)
        return self

    def evaluate(
        self,
        data: "Dataset | str | os.PathLike[str]",
        *,
        targets: str | None = None,
        past: "Dataset | None" = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """The ranking metrics on a data set, or on any log.

        Rows of items that the model does not know are passed over; users may be new.

        Args:
            data: a data set, asked for its validation and test samples; or a file, which is read
                as `Dataset.from_file` reads it and asked for the last item of each user.
            targets: what a data set is asked for instead: "last", the last item of each user, or
                "all", every item that something goes before.
            past: the data set that the model learned from, whose histories go before those of
                `data` unless that begins where they begin; an event of both counts once.
            settings: `cutoffs`, `backend`, `precision` and `eval_batch_size` of
                `config.TrainConfig`. Ranks never round, the encoder does as `precision` says.

        Returns:
            `valid` and `test` (None where there is none), each with `samples`, and with `unmasked`
            and `masked` metrics by name; `popularity` with the same of the floor, None where
            nothing says how popular the items were in training. `known` says what part of
            another log the model knows.

        Raises:
            InputError: the model knows none of the items, or there is nothing to ask for.
        """
        from ..evaluation import evaluate_model

        return evaluate_model(self, data, targets, past, settings)

    def recommend(
        self,
        histories: "Iterable[Iterable[Any]] | Mapping[Any, Iterable[Any]] | Dataset",
        k: int = DEFAULT_K,
        *,
        users: Iterable[Any] | None = None,
        items: Any = None,
        exclude: Any = None,
        items_per_user: Any = None,
        exclude_per_user: Any = None,
        exclude_seen: bool = True,
    ) -> "Recommendations":
        """The k best next items of each history, see `Recommender.recommend`."""
        return self._answering().recommend(
            histories,
            k,
            users=users,
            items=items,
            exclude=exclude,
            items_per_user=items_per_user,
            exclude_per_user=exclude_per_user,
            exclude_seen=exclude_seen,
        )

    def similar_items(
        self, items_or_item: Any, k: int = DEFAULT_K, *, items: Any = None, exclude: Any = None
    ) -> "Recommendations":
        """The k items of the highest cosine to each one, see `Recommender.similar_items`."""
        return self._answering().similar_items(items_or_item, k, items=items, exclude=exclude)

    def encode(self, histories: Iterable[Iterable[Any]]) -> NDArray[Any]:
        """The representation of each history of external item ids, float32 [N, D].

        The score of an item is the inner product with its row of `item_embeddings`. NaN where a
        history holds no item that the model knows.
        """
        return self._answering().encode(histories)

    @property
    def item_embeddings(self) -> NDArray[Any]:
        """A row of every item, float32 [V - 1, D], in the order of `item_ids[1:]`."""
        self.require_weights()
        return self.items()[1:].detach().cpu().numpy().copy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep options, weights and item ids in a new directory; `load` reads it back.

        Raises:
            InputError: the model has no weights yet, or the directory holds something.
        """
        from ..runs.loading import save_model

        self.require_weights()
        save_model(self, Path(path))

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        k: int = DEFAULT_K,
        exclude_seen: bool = True,
    ) -> "Exported":
        """Write a file for other programs, read it back and compare it with this model.

        Args:
            path: the file; one that is there is replaced.
            format: "npy", "safetensors" or "faiss": the item vectors; "torch" (`torch.export`) or
                "onnx": from padded histories to representations and the best items. None goes by
                the file's ending.
            k: torch and onnx: how many items a history gets.
            exclude_seen: torch and onnx: whether items of the history leave the answer.

        Returns:
            What was written, and the largest difference that was found.

        Raises:
            InputError: the model has no weights yet, an unknown format, one that the model has no
                form for, or whose library is missing (the extra `export`).
            RunError: the file cannot be written, or does not do what the model does.
        """
        from ..exporting.export import export

        return export(self, path, format, k=k, exclude_seen=exclude_seen)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "cpu") -> Self:
        """The model that `save` or a run left in a directory, with its best weights.

        Raises:
            InputError: there is none, or it is another model than this class.
        """
        from ..runs.loading import load_model

        model = load_model(Path(path), device=device)
        if not isinstance(model, cls):
            raise InputError(f"{path}: holds a {type(model).__name__}, not a {cls.__name__}")
        return model

    def require_weights(self) -> None:
        """Refuse what needs weights before there are any.

        Raises:
            InputError: neither `fit` nor `load` has been called.
        """
        if self.item_ids is None:
            name = type(self).__name__
            raise InputError(f"this {name} has no weights yet: {name}(...).fit(dataset), or load")

    def _answering(self) -> "Recommender":
        from ..recommender import Recommender

        self.require_weights()
        if self._recommender is None or not self._recommender.is_of(self):
            self._recommender = Recommender(self)
        return self._recommender

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: everything but what can be made again or lies elsewhere."""
        return self.__dict__ | {"_recommender": None, "_came_from": None}


_STARTING = Lock()
