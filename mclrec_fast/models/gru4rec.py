"""GRU4Rec: a recurrent encoder on the cross-entropy over all items, in plain torch.

Hidasi et al., ICLR 2016, with the loss over the whole catalogue instead of sampled ones, as RecBole
writes it: embedding, dropout, GRU, and a dense layer back to the embedding's width. It has no
kernels: autograd differentiates what is written here.
"""

import torch
from torch import Tensor, nn

from ..losses import find_loss
from ..ops import PackedSequences
from ..ops.philox import dropout_mask, dropout_stream
from .base import Batch, Losses, Model, Pass, Update
from .options import GRU4RecOptions


class GRU4Rec(Model):
    """See `Model` for what it can do, and `GRU4RecOptions` for what it can be told."""

    Options = GRU4RecOptions
    options: GRU4RecOptions

    def build(self, n_classes: int) -> None:
        """Create the embedding, the recurrent layers and the dense one."""
        hidden = self.options.hidden_size
        self.item_embedding = nn.Embedding(n_classes, hidden)
        self.gru = nn.GRU(hidden, hidden, self.options.layers, bias=False, batch_first=True)
        self.dense = nn.Linear(hidden, hidden)
        nn.init.normal_(self.item_embedding.weight, std=self.options.init_std)

    def represent(self, packed: PackedSequences, at: Pass) -> Tensor:
        """The dense layer's output behind each sequence's last state, [S, D]."""
        tokens = self.item_embedding(packed.items[: int(packed.offsets[-1])])  # [T, D]
        tokens = self._dropout(tokens, at)
        lengths = packed.lengths.tolist()
        padded = nn.utils.rnn.pad_sequence(tokens.split(lengths), batch_first=True)  # [S, L, D]
        runs = nn.utils.rnn.pack_padded_sequence(
            padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        _, state = self.gru(runs)  # [layers, S, D]
        h: Tensor = self.dense(state[-1])
        return h

    def items(self) -> Tensor:
        """The item embedding, [V, D]."""
        return self.item_embedding.weight

    def updates(self) -> list[Update]:
        """One, of everything."""
        return [Update("encoder", ("encoder",), self._objective)]

    def _objective(self, batch: Batch, at: Pass) -> Losses:
        h = self.represent(batch.sequences, at)
        loss = find_loss(self.options.loss).of(self.options)
        rec = loss(h, self.items(), batch.targets, at)
        return {"rec": rec, "total": rec}

    def _dropout(self, tokens: Tensor, at: Pass) -> Tensor:
        """Dropout of the embedded tokens [T, D], drawn by (seed, update, token) alone."""
        p = self.options.hidden_dropout
        if p == 0 or not self.training:
            return tokens
        first = 0 if at.place is None else at.place.token
        row = torch.arange(first, first + len(tokens), device=tokens.device)
        kept = dropout_mask(
            p,
            torch.zeros_like(row),
            tokens.shape[1],
            row,
            alignment=128,
            seed=at.seed,
            stream=dropout_stream(0, 0),
            update=int(at.update),
        )  # [T, D]
        return tokens * kept / (1 - p)
