"""What the conformance suite knows of an op: its inputs over named shapes, and how to run it.

An op is run through its public function only; the truth is the same function in float64 with
backend="torch". Nothing here checks anything: see checks.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Results = dict[str, Tensor]
Layout = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Call:
    """Arguments of one call by name. Floating tensors are float64 that float32 holds exactly."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    logit: float = 0.0  # size of the largest argument of an exponential

    @property
    def floating(self) -> list[str]:
        """The names of the floating tensors."""
        return [name for name, x in self.tensors.items() if x.is_floating_point()]


@dataclass(frozen=True)
class Bad:
    """A change of good arguments, and the error that it must raise on every backend.

    ``of_values``: found by looking at a tensor's values, which no kernel on a GPU does.
    """

    change: Mapping[str, Any]
    error: type[Exception]
    message: str
    of_values: bool = False


def same_sizes(sizes: dict[str, float], _call: Call, _device: str) -> dict[str, float]:
    """Every result is measured by its own size."""
    return sizes


@dataclass(frozen=True, repr=False, eq=False)
class OpCase:
    """One op. ``shapes`` and ``settings`` are given names; what a shape is, ``make`` knows."""

    name: str
    function: Callable[..., Any]  # called with all arguments by name, and backend=
    make: Callable[[Any, Mapping[str, Any], int], Call]  # shape, settings, draw
    shapes: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    bad: Sequence[Bad]
    properties: Sequence[tuple[str, str]]  # (shape, setting) for what need not meet every shape
    threads: Sequence[tuple[str, str]]  # (shape, setting) with work for eight threads
    emulated: Sequence[str]  # shapes small enough for emulated CUDA kernels
    tiny: Any = None  # shape for gradcheck
    everywhere: Sequence[str] | None = None  # settings that meet every shape; None for all
    few: Sequence[str] | None = None  # settings that meet float32 and gradcheck; None for all
    differentiable: bool = True  # in every floating input
    exact: bool = False  # equal to the reference to the bit
    fused: Callable[[Any], bool] = lambda shape: False  # only where multiply-adds round once
    norm: str = "max"  # how errors are measured: their maximum or root mean square ("rms")
    draws: Callable[[Any], int] = lambda shape: 1  # float32 is judged by the median of so many
    float32: Callable[[Any], bool] = lambda shape: True  # whether this shape says anything
    tolerance: Callable[[Call], float] = lambda call: 1e-13  # in float64
    # By how much a gradient's errors may exceed what it is made of, where that cancels.
    condition: Callable[[Call], float] = lambda call: 1.0
    # Weights of the scalar outputs that have a gradient at these arguments; None where all have.
    smooth: Callable[[Call], Sequence[float] | None] = lambda call: None
    sizes: Callable[[dict[str, float], Call, str], dict[str, float]] = same_sizes
    said: Callable[[str], str] = lambda name: name  # what errors call an argument
    on_gpu: bool = True  # has a CUDA kernel

    def __repr__(self) -> str:
        return self.name

    def call(self, shape: str, setting: str, draw: int = 0) -> Call:
        """The arguments under these names; another draw has other random numbers."""
        return self.make(self.shapes[shape], self.settings[setting], draw)

    def cases(self) -> Iterator[tuple[str, str]]:
        """All (shape, setting); what need not meet every shape meets the first of `properties`."""
        for shape in self.shapes:
            for setting in self.settings:
                everywhere = self.everywhere is None or setting in self.everywhere
                if everywhere or shape == self.properties[0][0]:
                    yield shape, setting


def run(
    op: OpCase,
    call: Call,
    backend: str,
    dtype: torch.dtype,
    device: str = "cpu",
    *,
    wanted: Sequence[str] | None = None,
    layout: Layout = lambda x: x,
    weights: Sequence[float] | None = None,
) -> Results:
    """Results and gradients by name, on the CPU.

    Args:
        op: The op.
        call: Its arguments.
        backend: "torch" or "native".
        dtype: Of the floating tensors.
        device: Where it runs.
        wanted: The inputs whose gradients are wanted; None for all.
        layout: Puts every tensor that goes in, gradients too, into other strides.
        weights: Of the outputs, where these are scalars.
    """
    names = call.floating if wanted is None and op.differentiable else list(wanted or ())
    tensors = {}
    for name, x in call.tensors.items():
        x = layout(x.to(device, dtype if x.is_floating_point() else x.dtype).detach())
        tensors[name] = x.requires_grad_() if name in names else x
    outputs = outputs_of(op, tensors, call.settings, backend)
    results = {f"output {i}": x.detach().cpu() for i, x in enumerate(outputs)}
    if names:
        arriving = [layout(g.to(device, dtype)) for g in gradients_for(outputs, weights)]
        pairs = [(x, g) for x, g in zip(outputs, arriving, strict=True) if x.requires_grad]
        inputs = [tensors[name] for name in names]
        found: Sequence[Tensor] = [torch.zeros_like(x) for x in inputs]
        if pairs:
            of, arrived = zip(*pairs, strict=True)
            found = torch.autograd.grad(of, inputs, arrived, materialize_grads=True)
        results |= {f"d {n}": g.cpu() for n, g in zip(names, found, strict=True)}
    return results


def outputs_of(
    op: OpCase, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], backend: str
) -> tuple[Tensor, ...]:
    """All outputs of the public function."""
    outputs = op.function(**tensors, **settings, backend=backend)
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def gradients_for(outputs: Sequence[Tensor], weights: Sequence[float] | None) -> list[Tensor]:
    """A gradient for each output: random numbers, or the weight of a scalar; exact in float32."""
    generator = torch.Generator().manual_seed(1)
    if weights is None:
        weights = [1.5, 0.75, 1.125, 0.625][: len(outputs)]
    return [
        torch.tensor(weight, dtype=torch.float64)
        if x.dim() == 0
        else torch.randn(x.shape, generator=generator).double()
        for x, weight in zip(outputs, weights, strict=True)
    ]


def random(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers in float64 that float32 holds."""
    return torch.randn(*shape, generator=generator).double()


def widths(template: Callable[[int], Any]) -> dict[str, Any]:
    """Shapes of every ugly width: around vectors of 8 and 16 numbers and tiles of 32 and 64."""
    return {f"width {d}": template(d) for d in (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)}
