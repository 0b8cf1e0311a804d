"""The public op `contrast` (torch path; the kernel's registration joins it here)."""

from typing import Any

from .reference.contrast import contrast as _reference


def contrast(*args: Any, backend: str = "auto", **kwargs: Any) -> Any:
    """See the reference."""
    return _reference(*args, **kwargs)
