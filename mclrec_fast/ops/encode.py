"""The public op `encode` (torch path; the kernel's registration joins it here)."""

from typing import Any

from .reference.encode import encode as _reference


def encode(*args: Any, backend: str = "auto", **kwargs: Any) -> Any:
    """See the reference."""
    return _reference(*args, **kwargs)
