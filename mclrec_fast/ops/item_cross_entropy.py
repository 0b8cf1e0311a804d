"""The public op `item_cross_entropy` (torch path; the kernel's registration joins it here)."""

from typing import Any

from .reference.item_cross_entropy import item_cross_entropy as _reference


def item_cross_entropy(*args: Any, backend: str = "auto", **kwargs: Any) -> Any:
    """See the reference."""
    return _reference(*args, **kwargs)
