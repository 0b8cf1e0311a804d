"""Fast, exact training of contrastive sequential recommenders (MCLRec and relatives)."""

__version__ = "0.1.0"
