"""What a loss against the catalogue is: a scalar that autograd differentiates, and by hand."""

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from ..models.base import Pass


class Loss:
    """How well representations find their targets among all items."""

    kernels: ClassVar[tuple[str, ...] | None] = None
    """Operators that `by_hand` calls; None where there is no such path, and autograd does it."""

    def of(self, options: Any) -> "Loss":
        """The loss as a model's options want it."""
        return self

    def __call__(self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass") -> Tensor:
        """The mean loss, a scalar.

        Args:
            h: representations [B, D].
            items: the item table [V, D], row 0 for padding.
            targets: int64 [B], rows of `items`.
            at: random draws and backend.
        """
        raise NotImplementedError

    def by_hand(
        self, h: Tensor, items: Tensor, targets: Tensor, at: "Pass"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, detached, with its gradients by kernels: of `h` [B, D] and `items` [V, D]."""
        raise NotImplementedError
