"""Several processes that train one model: who they are, how a batch is dealt, what they exchange.

Knows torch.distributed and nothing of models and trainings, which know this. One process is the
same code with nothing to exchange. See docs/scale.md.
"""

from .group import ALONE, Group, LostProcess
from .join import joined, local_processes
from .share import WHOLE, Part, Place, Share

__all__ = [
    "ALONE",
    "WHOLE",
    "Group",
    "LostProcess",
    "Part",
    "Place",
    "Share",
    "joined",
    "local_processes",
]
