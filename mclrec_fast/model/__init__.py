"""The model: encoder, augmenters and the paper's objective. Knows nothing of training."""

from .augmenter import Augmenter
from .encoder import Encoder
from .mclrec import MCLRec

__all__ = ["Augmenter", "Encoder", "MCLRec"]
