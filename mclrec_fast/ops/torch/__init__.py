"""Every op in plain, differentiable torch: the backend that runs wherever the kernels do not.

Written to be read beside the paper, in float32 or float64, on any device; the kernels must equal
it. Inputs are not checked here; the public functions of :mod:`mclrec_fast.ops` do that.
"""
