"""Which run a file belongs to: a digest of everything that decides the bits of a training.

Equal runs have equal identities; a state or weights of another seed, another setting or other data
have another one, whatever their shapes are. What a resumed run may change decides no bits.
"""

import hashlib
import json

from ..config import Config, keys_of, to_dict
from .start import Start

CHANGEABLE = (
    "data", "more", "epochs", "max_steps", "patience", "min_delta", "threads", "device", "backend",
    "precision", "cuda_graphs", "eval_batch_size", "checkpoint_steps", "reader", "tracker",
    "diagnose_every", "process_timeout",
)  # fmt: skip
"""Keys that a resumed run may change; anything else would make it another run."""

_NOT_DECISIVE = ("user_ids", "item_embeddings", "item_ids")
"""Keys that change nothing, or nothing by themselves: what files hold is in `Start`."""

LATER = (
    "loss", "reuse_views", "valid_users", "freeze", "batch_parts", "negatives", "loss_negatives",
    "gbce_t",
)  # fmt: skip
"""Keys that came after the first runs of this format. They count where they are not at their
default, so that a run from before them keeps its identity."""


def identity(config: Config, data_sha256: str, start: Start | None = None) -> str:
    """The identity of a run of this configuration on these data, 64 hexadecimal digits.

    Args:
        config: its configuration.
        data_sha256: of its log.
        start: the weights that it began with; None for new ones.
    """
    keys = keys_of(config.model.name)
    decisive = {
        name: value
        for part in to_dict(config).values()
        for name, value in part.items()
        if name not in CHANGEABLE
        and name not in _NOT_DECISIVE
        and not (name in LATER and value == keys[name].default)
    }
    parts = [decisive, data_sha256, *([] if start is None else [start.decisive()])]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
