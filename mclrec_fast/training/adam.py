"""Adam over a list of weights as one call (Kingma & Ba, ICLR 2015, without weight decay).

torch.optim.Adam counts steps once for every weight, in a tensor each, which takes longer than the
arithmetic of a small model; here all weights share one counter. The arithmetic is torch's own fused
kernel, so the results are those of ``torch.optim.Adam(weights, lr=lr, fused=True)`` to the bit; or,
beside other kernels of this package, one of its own (`ops.adam`) that shares their threads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..models.base import Moments
from ..ops import adam as _registered  # noqa: F401

_BETA_1, _BETA_2, _EPS = 0.9, 0.999, 1e-8


class Adam:
    """Dense Adam: a weight whose gradient is zero still moves by its momentum.

    Attributes:
        weights: what it moves, float32 or float64, all on one device.
        learning_rate: step size.
        native: whether the package's kernel computes it.
        steps: float32 scalar on that device, updates made so far.
        first: running means of the gradients, one like each weight.
        second: running means of their squares, one like each weight.
    """

    def __init__(
        self, weights: Sequence[Tensor], learning_rate: float, *, native: bool = False
    ) -> None:
        """Start from zero means; `native` takes the package's kernel where there is one."""
        self.native = native and _native.has_kernel("adam_step", weights[0].device)
        self.weights = list(weights)
        self.learning_rate = learning_rate
        self.steps = torch.zeros((), dtype=torch.float32, device=self.weights[0].device)
        self.first = [torch.zeros_like(weight) for weight in self.weights]
        self.second = [torch.zeros_like(weight) for weight in self.weights]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move every weight once.

        Args:
            gradients: one for each weight, of its shape and dtype.
        """
        if self.native:
            torch.ops.mclrec_fast.adam_step.default(
                self.weights, gradients, self.first, self.second, self.steps,
                self.learning_rate, _BETA_1, _BETA_2, _EPS,
            )  # fmt: skip
            return
        self.steps += 1
        torch._fused_adam_(
            self.weights,
            list(gradients),
            self.first,
            self.second,
            [],
            [self.steps] * len(self.weights),
            lr=self.learning_rate,
            beta1=_BETA_1,
            beta2=_BETA_2,
            weight_decay=0.0,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
        )

    def moments(self) -> Moments:
        """Its state, for a kernel that makes the step itself."""
        tensors = [*self.first, *self.second, self.steps]
        return Moments(tensors, self.learning_rate, (_BETA_1, _BETA_2, _EPS))

    def state_dict(self) -> dict[str, Any]:
        """Everything a later optimizer of the same weights needs to go on."""
        return {"steps": self.steps, "first": self.first, "second": self.second}

    @torch.no_grad()
    def carry(self, state: Mapping[str, Any]) -> None:
        """Take over what an optimizer of the same weights, with fewer rows perhaps, left.

        Rows that it did not know begin with means of zero.
        """
        self.steps.copy_(state["steps"])
        for kept, saved in ((self.first, state["first"]), (self.second, state["second"])):
            for mine, other in zip(kept, saved, strict=True):
                mine.zero_()
                (mine if mine.shape == other.shape else mine[: len(other)]).copy_(other)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.steps.copy_(state["steps"])
        for kept, saved in ((self.first, state["first"]), (self.second, state["second"])):
            for mine, other in zip(kept, saved, strict=True):
                if mine.shape != torch.as_tensor(other).shape:
                    raise ValueError(f"means of another shape, expected {list(mine.shape)}")
                mine.copy_(other)
