"""The machine for the time of a training or an answer: its threads, its device, its precision."""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch

from .. import _fork, _native, _precision
from ..config import MAX_THREADS, Config, TrainConfig
from ..config_keys import Given
from ..errors import InputError
from ..parallel import local_processes


def all_cores(config: Config) -> Config:
    """The configuration with the number of threads decided: this process's share of the cores."""
    if config.train.threads is not None:
        return config
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = min(max(1, (cores or 1) // local_processes()), MAX_THREADS)
    return replace(config, train=replace(config.train, threads=threads))


@functools.cache
def require_threads(count: int) -> None:
    """Makes as many threads at once and lets them go: OpenMP ends the process where it cannot.

    Raises:
        InputError: the system gives fewer.
    """
    go, started = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(count - 1):
            thread = threading.Thread(target=go.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise InputError(
            f"--threads {count}: this system gives no more than {len(started) + 1} here (ulimit "
            "-u, or the container's limit of processes or memory): give fewer"
        ) from None
    finally:
        go.set()
        for thread in started:
            thread.join()


def inherited(config: Config, given: Mapping[str, Given], say: Callable[[str], None]) -> Config:
    """A run's configuration for this machine, which may lack the precision that it was made with.

    Args:
        config: of the run.
        given: what was asked for now, by key name; a precision that was is left to `machine_for`.
        say: told where float32 is taken instead.
    """
    train = config.train
    if "precision" in given or train.precision == _precision.FLOAT32:
        return config
    backend = "native" if train.device == "cuda" else _native.backend(train.backend, train.device)
    reason = _precision.problem(train.precision, train.device, backend)
    if reason is None:
        return config
    say(f"note: the run's {reason}; float32 is taken instead")
    return replace(config, train=replace(train, precision=_precision.FLOAT32))


@contextmanager
def machine_for(train: TrainConfig) -> Iterator[torch.device]:
    """While entered, this process works with these settings' threads and precision.

    Yields the device. Threads that are not given stay as they are; what was changed is put back.

    Raises:
        InputError: there is no such device, no such backend or precision on it, or not so many
            threads.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    device = torch.device(train.device)
    backend = _native.backend(train.backend, device)
    with _precision.rounding(train.precision, device, backend):
        before = torch.get_num_threads()
        threads = _fork.allowed_threads(train.threads or before)
        require_threads(threads)
        torch.set_num_threads(threads)
        try:
            yield device
        finally:
            torch.set_num_threads(before)


def require_machine(train: TrainConfig) -> None:
    """Refuse settings that this machine cannot work with, before anything else is done.

    Raises:
        InputError: see `machine_for`.
    """
    with machine_for(train):
        pass
