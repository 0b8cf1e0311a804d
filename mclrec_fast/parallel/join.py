"""How processes meet: what `torchrun` says of them in the environment, and gloo or NCCL.

A script that has made torch.distributed's default group itself is taken at its word.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from ..errors import InputError
from .group import ALONE, Group

_SAID = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def local_processes() -> int:
    """How many processes share this machine's cores, as `torchrun` says; 1 without it."""
    return _number("LOCAL_WORLD_SIZE", 1) if _said() else 1


def restarted() -> bool:
    """Whether `torchrun --max-restarts` started this process again after an end."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) > 0


def require_alone(what: str) -> None:
    """Refuse several processes for what one does.

    Raises:
        InputError: there are several.
    """
    if _said() and _number("WORLD_SIZE", 1) > 1:
        raise InputError(f"{what} is for one process: start it without torchrun")


def launched_as() -> str:
    """How to start a training as this one was started, for messages."""
    if not _said() or _number("WORLD_SIZE", 1) == 1:
        return "mclrec-fast train"
    return f"torchrun --nproc-per-node {local_processes()} -m mclrec_fast.train"


def _said() -> bool:
    return all(name in os.environ for name in _SAID)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"{name}={text!r} in the environment is no number: start processes with torchrun"
        ) from None


@contextmanager
def joined(device: str, patience: float) -> Iterator[Group]:
    """While entered, the processes that were started together are one group.

    Args:
        device: "cpu" (gloo) or "cuda" (NCCL, each process on the GPU of its local number).
        patience: seconds within which the others must come, and answer later.

    Raises:
        InputError: they cannot meet: no gloo, a port in use, somebody missing.
    """
    if dist.is_available() and dist.is_initialized():
        yield _group(device, patience)
        return
    if not _said() or _number("WORLD_SIZE", 1) == 1:
        yield ALONE
        return
    _require(device)
    size, number = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if not 0 <= number < size:
        raise InputError(f"RANK={number} of WORLD_SIZE={size}: start processes with torchrun")
    if device == "cuda":
        torch.cuda.set_device(_number("LOCAL_RANK", 0))
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            timeout=timedelta(seconds=patience),
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(_why_not(error, os.environ, patience)) from None
    try:
        yield _group(device, patience)
    finally:
        dist.destroy_process_group()


def _group(device: str, patience: float) -> Group:
    where = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else None
    size = dist.get_world_size()
    one_machine = local_processes() == size
    return Group(dist.get_rank(), size, where, patience, one_machine)


def _require(device: str) -> None:
    """Refuse to begin what this torch cannot do."""
    if not dist.is_available() or not dist.is_gloo_available():
        raise InputError(
            "several processes need gloo, which this build of torch lacks: install torch from "
            "pytorch.org or PyPI, or train in one process"
        )
    if device == "cuda" and not dist.is_nccl_available():
        raise InputError("several processes on GPUs need NCCL, which this build of torch lacks")


def _why_not(error: Exception, environment: Mapping[str, str], patience: float) -> str:
    """What to say of processes that did not meet."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if "EADDRINUSE" in str(error) or "address already in use" in str(error).lower():
        return (
            f"port {port} of {address} is in use, by another training perhaps: give another one "
            "(torchrun --master-port N, or --standalone for a free one)"
        )
    return (
        f"the {environment.get('WORLD_SIZE')} processes did not meet at {address}:{port} within "
        f"{patience:g} s: {reason}"
    )
