"""Every op in plain, differentiable torch: what the kernels must equal, and the path without them.

Written to be read beside the paper, in float32 or float64, on any device. Inputs are not checked
here; the public functions of :mod:`mclrec_fast.ops` do that.
"""
