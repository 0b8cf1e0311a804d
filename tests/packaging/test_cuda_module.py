"""`_C_cuda` where torch is built for CUDA: it loads and registers its kernels, GPU or not."""

import subprocess
import sys

import pytest
import torch

from mclrec_fast import _native

from ..cuda_emulation.ops import implemented

OPS = (
    "augment_views", "gather_sequences", "encode", "packed_attention", "contrast", "info_nce",
    "item_cross_entropy", "target_rank", "top_k",
)  # fmt: skip

loaded = pytest.mark.skipif(
    _native.MODULES["_C_cuda"].module is None,
    reason=f"_C_cuda is not loaded: {_native.MODULES['_C_cuda'].reason}",
)


def test_the_sources_register_every_op() -> None:
    with_backward = ("encode", "packed_attention", "contrast", "info_nce")
    assert set(implemented()) == {*OPS, *(f"{op}_backward" for op in with_backward)}


@loaded
@pytest.mark.parametrize("op", implemented())
def test_a_kernel_is_registered(op: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"mclrec_fast::{op}", "CUDA")
    assert _native.has_kernel(op, "cuda")


@loaded
def test_its_architectures_are_on_record() -> None:
    assert _native.cuda_architectures()
    report = subprocess.run(
        [sys.executable, "-m", "mclrec_fast"], capture_output=True, text=True, check=True
    ).stdout
    for architecture in _native.cuda_architectures():
        assert architecture in report
