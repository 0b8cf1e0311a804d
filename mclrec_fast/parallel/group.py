"""The processes that work together, and what they say to each other.

`Group` is the only place that calls torch.distributed once the processes have met. A process that
ends, or does not answer in time, ends the others with a `LostProcess`, never with a wait for ever.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from ..errors import InputError, MclrecError, RunError
from . import shared_memory
from .tree import Span, add_up, deal, subtrees

_Result = TypeVar("_Result")


class LostProcess(RunError):
    """Another process has ended, or did not answer in time."""


class Group:
    """Some processes, each with a number; alone, nothing is exchanged.

    Attributes:
        number: of this process, from 0; process 0 writes and speaks.
        size: how many there are.
        device: where tensors that are exchanged lie.
    """

    def __init__(
        self,
        number: int = 0,
        size: int = 1,
        device: torch.device | None = None,
        patience: float = 0,
        one_machine: bool = False,
    ) -> None:
        """Those of torch.distributed's default group.

        Args:
            number: of this process.
            size: how many there are.
            device: where tensors that are exchanged lie.
            patience: seconds that an answer may take.
            one_machine: whether all run on one, and can share memory.
        """
        self.number, self.size = number, size
        self.device = device or torch.device("cpu")
        self._patience = patience
        self._one_machine = one_machine and size > 1 and self.device.type == "cpu"
        self._shared: dict[tuple[int, int, torch.dtype], list[Tensor] | None] = {}
        self._turns = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.number == 0

    def _say(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """One exchange.

        Raises:
            LostProcess: somebody did not take part.
        """
        try:
            return call(*arguments, **more)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise LostProcess(
                f"process {self.number} of {self.size}: another process has ended, or did not "
                f"answer within {self._patience:g} s ({reason[:200]})"
            ) from None

    def own(self, count: int) -> Span:
        """This process's share of `count` things in order."""
        return deal(count, self.size)[self.number]

    # Objects: settings, errors, states. Not for every batch.

    def everyones(self, value: Any) -> list[Any]:
        """The value of each process, by number."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        self._say(dist.all_gather_object, found, value)
        return found

    def together(self, work: Callable[[], _Result]) -> _Result:
        """What `work` returns here, if it raises nothing in any process.

        Raises:
            InputError, RunError: it did; the first process's error, in all of them, marked as one
                that process 0 alone has to say.
        """
        result, error = _attempt(work)
        if self.size == 1:
            if error is not None:
                raise error
            return result  # type: ignore[return-value]
        for number, found in enumerate(self.everyones(error)):
            if found is not None:
                self._raise(found, f"process {number} of {self.size}: " if number else "")
        return result  # type: ignore[return-value]

    def of_first(self, work: Callable[[], _Result]) -> _Result | None:
        """What `work` returns in process 0; None in the others, which do not call it.

        Raises:
            InputError, RunError: as in `together`.
        """
        return self.together(lambda: work() if self.first else None)

    def from_first(self, work: Callable[[], _Result]) -> _Result:
        """What `work` returns in process 0, in all of them; the others do not call it.

        Raises:
            InputError, RunError: as in `together`.
        """
        if self.size == 1:
            return work()
        found = [_attempt(work) if self.first else None]
        self._say(dist.broadcast_object_list, found, src=0)
        assert found[0] is not None
        result, error = found[0]
        if error is not None:
            self._raise(error, "")
        return result  # type: ignore[return-value]

    def _raise(self, error: Exception, prefix: str) -> None:
        text = f"{prefix}{error}"
        again: MclrecError
        again = InputError(text) if isinstance(error, InputError) else RunError(text)
        again.said_by_another = not self.first
        raise again

    # Numbers.

    def largest(self, value: int) -> int:
        """The largest of everybody's numbers."""
        if self.size == 1:
            return value
        found = torch.tensor(value, device=self.device)
        self._say(dist.all_reduce, found, op=dist.ReduceOp.MAX)
        return int(found)

    # Tensors.

    def rows(self, own: Tensor, counts: Sequence[int], *, often: bool = False) -> Tensor:
        """Everybody's rows, in order of the processes.

        Args:
            own: [counts[number], ...], this process's.
            counts: how many each process has.
            often: in every batch, so that memory may be kept for it.
        """
        if self.size == 1:
            return own
        most = max(counts)
        shape = own.shape[1:]
        shared = self._memory(self.size, most * shape.numel(), own.dtype) if often else None
        if shared is not None:
            shared[self.number, : own.numel()] = own.reshape(-1)
            self._meet()
            found = shared.view(self.size * most, *shape).clone()
        else:
            sent = own.new_zeros(most, *shape)
            sent[: len(own)] = own
            found = own.new_empty(self.size * most, *shape)
            self._say(_gather_into, found, sent.contiguous())
        if min(counts) == most:
            return found
        parts = found.split(most)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def _meet(self) -> None:
        """Nobody goes on before all have come."""
        self._say(dist.all_reduce, torch.zeros(1))

    def _memory(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor | None:
        """Memory [rows, columns] that all see; None where processes share none.

        It is one of two, by turns: who writes into it may be one exchange ahead of who still reads
        what was in the other.
        """
        if not self._one_machine:
            return None
        key = (rows, columns, dtype)
        if key not in self._shared:
            both = [self._make_memory(*key) for _ in range(2)]
            self._shared[key] = None if None in both else both  # type: ignore[assignment]
        memory = self._shared[key]
        if memory is None:
            return None
        self._turns += 1
        return memory[self._turns % 2]

    def _make_memory(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor | None:
        name = self.from_first(lambda: shared_memory.make(rows * columns * dtype.itemsize))
        seen = None if name is None else shared_memory.see(name, rows, columns, dtype)
        all_see = all(self.everyones(seen is not None))
        if name is not None and self.first:
            shared_memory.forget(name)
        return seen if all_see else None

    def padded(self, elements: int) -> int:
        """The size of an array of `elements` that `sum_of_parts` takes."""
        return -(-elements // self.size) * self.size

    def sum_of_parts(self, own: Sequence[Tensor], parts: int) -> Tensor:
        """The sum over all parts of a batch, in the order of the tree; the same bits everywhere.

        Every process adds up one slice of everybody's subtrees, and gives its slice to all: what a
        process sends and receives does not grow with the number of processes, as in a ring. The
        result is good until the next exchange.

        Args:
            own: of each subtree of this process its sum, [G], G a multiple of the processes.
            parts: of the whole batch; process p has those that `tree.deal` gives it.

        Returns:
            [G].
        """
        nodes = [subtrees(span, (0, parts)) for span in deal(parts, self.size)]
        turns, elements = max(map(len, nodes)), len(own[0])
        shared = self._memory(self.size * turns + 1, elements, own[0].dtype)
        if shared is not None:
            for turn, tensor in enumerate(own):
                shared[self.number * turns + turn].copy_(tensor)
            self._meet()
            mine = slice(*(n * elements // self.size for n in (self.number, self.number + 1)))
            known = {
                node: shared[number * turns + turn, mine]
                for number, of in enumerate(nodes)
                for turn, node in enumerate(of)
            }
            shared[-1, mine] = add_up((0, parts), known.get, torch.add)
            self._meet()
            return shared[-1]
        received: dict[Span, Tensor] = {}
        for turn in range(turns):
            sent = own[min(turn, len(own) - 1)]  # the last again where others have more
            found = torch.empty_like(sent)
            self._say(dist.all_to_all_single, found, sent)
            slices = found.chunk(self.size)
            received |= {of[turn]: s for of, s in zip(nodes, slices, strict=True) if turn < len(of)}
        total = add_up((0, parts), received.get, torch.add)
        self._say(_gather_into, own[0], total)
        return own[0]


def _gather_into(found: Tensor, sent: Tensor) -> None:
    """All processes' `sent` end to end; by whichever name this torch knows it."""
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(found, sent)


def _attempt(work: Callable[[], _Result]) -> tuple[_Result | None, Exception | None]:
    """What it returns, and the error that is for a user to read."""
    try:
        return work(), None
    except LostProcess:
        raise
    except (InputError, RunError) as error:
        return None, error


ALONE = Group()
"""One process."""
