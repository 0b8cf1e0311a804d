"""A forked child computes with one thread: the threads of OpenMP do not follow it.

Its first parallel region would wait for them for ever, in plain PyTorch as here. Processes started
by `spawn` have threads of their own.
"""

import os
import warnings

import torch

_forked = False


def watch() -> None:
    """From now on every child that is forked off this process gets along with one thread."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)


def allowed_threads(wanted: int) -> int:
    """The threads that a training may use in this process; says so where they are fewer."""
    if not _forked or wanted == 1:
        return wanted
    warnings.warn(
        f"{wanted} threads were asked for in a forked process, which can use one: start processes "
        "with multiprocessing's 'spawn' to use more",
        stacklevel=3,
    )
    return 1
