"""The fused multiply-add that the torch backend's rankings are made of, in plain torch."""

import torch

from mclrec_fast.ops.reference.fixed_order import fused_multiply_add


def test_it_rounds_once() -> None:
    """(1 + e)(1 - e) - 1 = -e^2 exactly, and a case that double rounding gets wrong."""
    e = 2.0**-12
    one = torch.tensor(1.0)
    assert float(fused_multiply_add(one + e, one - e, -one)) == -(e**2)
    # 1 + 2^-24 is a midpoint of float32; the product lies just above it, by less than float64 sees.
    a, b = torch.tensor(2.0**-24 * (1 + 2.0**-23)), torch.tensor(1 - 2.0**-24)
    assert float(fused_multiply_add(a, b, one)) == 1 + 2.0**-23
    c = torch.tensor(2.0**31)
    a, b = torch.tensor(2.0**7 + 2.0**-16), torch.tensor(1.0)
    assert float(fused_multiply_add(a, b, c)) == 2.0**31 + 2.0**8
    assert float(fused_multiply_add(-a, b, -c)) == -(2.0**31) - 2.0**8
