"""Access to mclrec_golden.npz: float64 numbers recorded from the authors' implementation.

Not a test. V = 60, B = 9, dropout 0, lambda 0.3, beta 0.2; names are the authors' state-dict names.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mclrec_fast import MCLRec
from mclrec_fast.models.authors import encoder_name, encoder_state
from mclrec_fast.ops import PackedSequences

CLASSES, BATCH = 60, 9
_FILE = np.load(Path(__file__).parent / "mclrec_golden.npz")


def recorded(name: str) -> Tensor:
    """One recorded array as a float64 (or int64) tensor."""
    array = _FILE[name]
    kind = torch.float64 if array.dtype.kind == "f" else torch.int64
    return torch.from_numpy(np.asarray(array)).to(kind)


def recorded_tree(prefix: str) -> dict[str, Tensor]:
    """All recorded arrays below ``prefix/``."""
    names = [name for name in _FILE.files if name.startswith(prefix + "/")]
    return {name.removeprefix(prefix + "/"): recorded(name) for name in names}


def recorded_model(prefix: str = "", **changes: object) -> MCLRec:
    """A model of the recording's settings, with the recorded weights below ``prefix``, float64."""
    settings = {"lambda": 0.3, "beta": 0.2, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    model = MCLRec(**(settings | changes))
    model.start(np.arange(CLASSES), 0)
    model.double()
    model.encoder.load_state_dict(encoder_state(recorded_tree(f"{prefix}model")))
    for name, augmenter in (("aug_1", model.augmenter_1), ("aug_2", model.augmenter_2)):
        augmenter.load_state_dict(recorded_tree(prefix + name))
    return model


def recorded_gradients(prefix: str) -> dict[str, Tensor]:
    """Recorded gradients of the encoder by our names."""
    tree = recorded_tree(prefix)
    assert all(encoder_name(name) for name in tree)
    return encoder_state(tree)


def batch_views(number: int) -> tuple[PackedSequences, Tensor]:
    """Recorded batch ``number``: histories and both views packed (3B rows), and the targets."""
    items, positions, offsets = [], [], [0]
    for ids, lengths in (
        ("item_id_list", "item_length"),
        ("aug1", "aug_len1"),
        ("aug2", "aug_len2"),
    ):
        rows = recorded(f"batch{number}/{ids}").tolist()
        for row, n in zip(rows, recorded(f"batch{number}/{lengths}").tolist(), strict=True):
            kept = [j for j in range(n) if row[j] != 0 or j == n - 1]
            items += [row[j] for j in kept]
            positions += kept
            offsets.append(len(items))
    tensors = (torch.tensor(x, dtype=torch.int32) for x in (items, positions, offsets))
    return PackedSequences(*tensors), recorded(f"batch{number}/item_id")
