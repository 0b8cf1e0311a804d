"""The ops: one file each, one public function each, `backend=` chooses who computes it."""

from .packed import PackedSequences

__all__ = ["PackedSequences"]
