"""How close a kernel must be: the float32 kernel may err twice as much as float32 torch does."""

import torch
from torch import Tensor

Results = tuple[Tensor, ...]


def assert_accurate(native: Results, torch32: Results, truth: Results, logit: float = 0.0) -> None:
    """err(native, truth) <= 2 err(torch32, truth) + (1 + logit) eps times the largest value.

    Where the results are functions of exponentials of logits, a single rounding of the largest
    logit, eps * logit, is a relative error of the results: small cases hold so few logits that one
    of the two computations may be luckier than the other by any factor.

    Args:
        native: float32 values and gradients of the kernel.
        torch32: The same from the reference in float32.
        truth: The same from the reference in float64.
        logit: Size of the largest logit, 0 where there are none.
    """
    unit = torch.finfo(torch.float32).eps * (1.0 + logit)
    assert len(native) == len(torch32) == len(truth)
    for index, (n, t, x) in enumerate(zip(native, torch32, truth, strict=True)):
        assert n.dtype == t.dtype == torch.float32
        assert x.dtype == torch.float64
        assert n.shape == t.shape == x.shape
        allowed = 2 * largest(t.double() - x) + unit * largest(x)
        error = largest(n.double() - x)
        assert error <= allowed, f"result {index}: error {error:.3e} > {allowed:.3e}"


def assert_close64(native: Results, truth: Results, tolerance: float = 1e-12) -> None:
    """|native - truth| <= tolerance times the tensor's largest value (at least 1), in float64."""
    assert len(native) == len(truth)
    for index, (n, x) in enumerate(zip(native, truth, strict=True)):
        assert n.dtype == x.dtype == torch.float64
        error, allowed = largest(n - x), tolerance * max(largest(x), 1.0)
        assert error <= allowed, f"result {index}: error {error:.3e} > {allowed:.3e}"


def largest(x: Tensor) -> float:
    """The largest absolute value, 0 for an empty tensor; NaN if there is one."""
    return float(x.detach().abs().max()) if x.numel() else 0.0
