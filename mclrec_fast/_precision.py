"""What the factors of float32 products are rounded to: what can be had here, and the switch.

On a CPU with AMX the kernels of `encode` and `item_cross_entropy` round, in "bf16" to 8 significant
bits, in "bf16x3" to two such parts; AVX512-BF16 without AMX has "bf16" alone. On a GPU all kernels
and torch itself, in "tf32" to 11 bits, in "bf16" to 8 (torch, which has no bf16 for such products,
to TF32). Rankings never round, sums and weights stay float32. The switch holds for the whole
process, and begins with "float32".

Environment: MCLREC_FAST_AMX=0 (as if the CPU had no AMX).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import _native
from ._native import Backend
from .errors import InputError

FLOAT32 = "float32"
NEEDS = {
    "bf16x3": "a CPU with AMX (bf16)",
    "tf32": "a GPU (--device cuda)",
    "bf16": "a CPU with AMX or AVX512-BF16, or a GPU (--device cuda)",
}
_ON_A_GPU = (FLOAT32, "tf32", "bf16")
_ISA = "avx512"  # the instruction set whose kernels can round

_in_use = {"cpu": FLOAT32, "cuda": FLOAT32}


def usable(device: str | torch.device, backend: Backend) -> list[str]:
    """The words that can be had on a device of this machine, "float32" first."""
    kind = torch.device(device).type
    if kind == "cuda":
        return list(_ON_A_GPU)
    module = _native.MODULES["_C"].module
    if kind != "cpu" or backend == "torch" or module is None:
        return [FLOAT32]
    return list(module.usable_precisions())


def problem(word: str, device: str | torch.device, backend: Backend) -> str | None:
    """Why a word cannot be had on a device of this machine, and what can; None where it can."""
    able = usable(device, backend)
    if word in able:
        return None
    if word not in NEEDS:
        return f"precision={word!r} is unknown: use {', '.join((FLOAT32, *NEEDS))}"
    kind = torch.device(device).type
    where = "on a GPU" if kind == "cuda" else "here"
    reason = _about_this_cpu(word, backend) if kind == "cpu" and "CPU" in NEEDS[word] else None
    return f"precision={word!r} needs {reason or NEEDS[word]}; {where}: {', '.join(able)}"


def _about_this_cpu(word: str, backend: Backend) -> str | None:
    """What its kernels need to round so; None where it is the CPU that cannot."""
    if backend == "torch":
        return "the compiled kernels, as backend 'torch' never rounds on a CPU"
    features = _native.cpu_model()[1]
    if not features & ({"amx_bf16"} if word == "bf16x3" else {"amx_bf16", "avx512_bf16"}):
        return None
    in_use, asked = _native.isa(), os.environ.get("MCLREC_FAST_ISA")
    if in_use == _ISA and os.environ.get("MCLREC_FAST_AMX") == "0":
        return "AMX (MCLREC_FAST_AMX=0)"
    if in_use == _ISA:
        return "kernels built by a compiler that knows AMX, and a system that lets programs use it"
    said = f" (MCLREC_FAST_ISA={asked})" if asked else ""
    return f"the instruction set {_ISA}, not {in_use}{said}"


@contextmanager
def rounding(word: str, device: str | torch.device, backend: Backend) -> Iterator[None]:
    """While entered, float32 products on this kind of device round to `word`.

    Args:
        word: "float32", "bf16x3", "tf32" or "bf16".
        device: a CPU or a GPU.
        backend: who computes, "native" or "torch".

    Raises:
        InputError: another word, or one that cannot be had there.
    """
    reason = problem(word, device, backend)
    if reason is not None:
        raise InputError(reason)
    kind = torch.device(device).type
    if kind not in _in_use:
        yield
        return
    before, of_torch = _in_use[kind], torch.backends.cuda.matmul.allow_tf32
    _switch(kind, word)
    try:
        yield
    finally:
        _switch(kind, before)
        torch.backends.cuda.matmul.allow_tf32 = of_torch


def _switch(kind: str, word: str) -> None:
    module = _native.MODULES["_C_cuda" if kind == "cuda" else "_C"].module
    if module is not None:
        module.set_precision(word)
    if kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = word != FLOAT32
    _in_use[kind] = word
