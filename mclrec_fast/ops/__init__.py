"""The ops: one file each, one public function each, `backend=` chooses who computes it."""

from .augment_views import augment_views, gather_sequences
from .augmenter import augmenter
from .contrast import contrast
from .encode import encode
from .info_nce import info_nce
from .item_cross_entropy import item_cross_entropy
from .packed import PackedSequences
from .packed_attention import packed_attention
from .target_rank import TargetRank, target_rank
from .top_k import top_k

__all__ = [
    "PackedSequences",
    "TargetRank",
    "augment_views",
    "augmenter",
    "contrast",
    "encode",
    "gather_sequences",
    "info_nce",
    "item_cross_entropy",
    "packed_attention",
    "target_rank",
    "top_k",
]
