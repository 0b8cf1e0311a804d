"""GRU4Rec against the same layers on one history after the other, without packing."""

import numpy as np
import torch

from mclrec_fast import GRU4Rec
from mclrec_fast.models.base import Pass
from mclrec_fast.ops import gather_sequences


def test_packed_histories_are_represented_as_each_alone() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(hidden_size=8, layers=2, max_length=6)
    model.start(np.arange(20), 3)
    model.double().eval()
    items = torch.randint(1, 20, (30,), dtype=torch.int32)
    starts, lengths = torch.tensor([0, 5, 6, 20]), torch.tensor([5, 1, 6, 3], dtype=torch.int32)
    packed = gather_sequences(items, starts, lengths, max_length=6)
    h = model.represent(packed, Pass())
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        tokens = model.item_embedding(items[start : start + length][None])
        _, state = model.gru(tokens)
        assert torch.allclose(h[row], model.dense(state[-1, 0]), rtol=1e-12, atol=1e-14)
    model.train()
    kept = model._dropout(torch.ones(1000, 8, dtype=torch.float64), Pass(1, 4)) > 0
    assert 0.45 < kept.double().mean() < 0.55
    assert len(kept.unique(dim=0)) > 200  # rows draw apart
