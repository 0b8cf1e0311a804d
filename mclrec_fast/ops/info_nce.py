"""The public op `info_nce` (torch path; the kernel's registration joins it here)."""

from typing import Any

from .reference.info_nce import info_nce as _reference


def info_nce(*args: Any, backend: str = "auto", **kwargs: Any) -> Any:
    """See the reference."""
    return _reference(*args, **kwargs)
