"""All ops of the conformance suite. An op that is not here is not tested: test_suite.py asks."""

from .attention import PACKED_ATTENTION
from .catalogue import ITEM_CROSS_ENTROPY
from .contrasts import CONTRAST, INFO_NCE
from .encoder import ENCODE
from .perceptron import AUGMENTER
from .ranking import TARGET_RANK, TOP_K
from .views import AUGMENT_VIEWS, GATHER_SEQUENCES

OPS = {
    op.name: op
    for op in (
        *(AUGMENT_VIEWS, GATHER_SEQUENCES, ENCODE, PACKED_ATTENTION, AUGMENTER),
        *(CONTRAST, INFO_NCE, ITEM_CROSS_ENTROPY, TARGET_RANK, TOP_K),
    )
}
