"""The machine for the time of a training or an answer: its threads, its device, its precision."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from .. import _fork, _native
from ..config import Config, TrainConfig
from ..errors import InputError


def all_cores(config: Config) -> Config:
    """The configuration with the number of threads decided: all cores this process may use."""
    if config.train.threads is not None:
        return config
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return replace(config, train=replace(config.train, threads=cores or 1))


@contextmanager
def machine_for(train: TrainConfig) -> Iterator[torch.device]:
    """While entered, torch works with these settings' threads and precision; yields the device.

    Threads that are not given stay as they are; what was changed is put back.

    Raises:
        InputError: there is no such device, or no such backend on it.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    device = torch.device(train.device)
    _native.backend(train.backend, device)
    if device.type == "cuda":
        _native.set_precision(train.precision)
    before = torch.get_num_threads()
    torch.set_num_threads(_fork.allowed_threads(train.threads or before))
    try:
        yield device
    finally:
        torch.set_num_threads(before)
