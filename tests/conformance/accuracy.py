"""How close a kernel must be: the float32 kernel may err twice as much as float32 torch does."""

import math
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Results = dict[str, Tensor]
Sizes = dict[str, float]


def assert_accurate(
    native: Sequence[Results],
    torch32: Sequence[Results],
    truth: Sequence[Results],
    *,
    norm: str = "max",
    logit: float = 0.0,
    sizes: Callable[[Sizes], Sizes] = lambda sizes: sizes,
) -> None:
    """err(native, truth) <= 2 err(torch32, truth) + (1 + logit) eps times the result's size.

    Where the results are functions of exponentials of logits, a single rounding of the largest
    logit, eps * logit, is a relative error of the results: small cases hold so few logits that one
    of the two computations may be luckier than the other by any factor. For the same reason errors
    may be judged by their median over several draws.

    Args:
        native: float32 results and gradients of the kernel by name, of every draw.
        torch32: The same from the reference in float32.
        truth: The same from the reference in float64.
        norm: What an error is: the "max" of the differences, or their root mean square, "rms".
        logit: Size of the largest logit, 0 where there are none.
        sizes: Changes the sizes of the true results, where some are 0 in theory.
    """
    unit = torch.finfo(torch.float32).eps * (1.0 + logit)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for n, t, x in zip(native, torch32, truth, strict=True):
        assert n.keys() == t.keys() == x.keys()
        for name in x:
            assert n[name].dtype == t[name].dtype == torch.float32
            assert x[name].dtype == torch.float64
            assert n[name].shape == t[name].shape == x[name].shape
            differences = n[name].double() - x[name], t[name].double() - x[name], x[name]
            measured = tuple(size(difference, norm) for difference in differences)
            assert all(map(math.isfinite, measured)), f"{name} is not finite"
            found.setdefault(name, []).append(measured)
    medians = {
        name: tuple(map(statistics.median, zip(*errors, strict=True)))
        for name, errors in found.items()
    }
    scale = sizes({name: medians[name][2] for name in medians})
    for name, (error, torchs, _) in medians.items():
        allowed = 2 * torchs + unit * scale[name]
        assert error <= allowed, f"{name}: error {error:.3e} > {allowed:.3e}"


def assert_close64(native: Results, truth: Results, tolerance: float) -> None:
    """|native - truth| <= tolerance times the tensor's largest value (at least 1), in float64."""
    assert native.keys() == truth.keys()
    for name in truth:
        n, x = native[name], truth[name]
        assert n.dtype == x.dtype == torch.float64
        assert n.shape == x.shape
        error, allowed = largest(n - x), tolerance * max(largest(x), 1.0)
        assert error <= allowed, f"{name}: error {error:.3e} > {allowed:.3e}"


def assert_same_bits(found: Results, expected: Results) -> None:
    """Equal in dtype, shape and every bit (a NaN equals a NaN)."""
    assert found.keys() <= expected.keys()
    for name, x in found.items():
        assert x.dtype == expected[name].dtype, name
        assert x.shape == expected[name].shape, name
        torch.testing.assert_close(x, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


def size(x: Tensor, norm: str) -> float:
    """The largest absolute value or the root of the mean square; 0 for an empty tensor."""
    if norm == "max" or not x.numel():
        return largest(x)
    return float(x.double().square().mean().sqrt())


def largest(x: Tensor) -> float:
    """The largest absolute value, 0 for an empty tensor; NaN if there is one."""
    return float(x.detach().abs().max()) if x.numel() else 0.0
