"""Which backends the tests run on: plain torch, and the kernels where they are built."""

from mclrec_fast import _native

BACKENDS = ["torch", "native"] if _native.available() else ["torch"]
