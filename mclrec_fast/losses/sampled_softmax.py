"""Sampled softmax with the log-Q correction: the exact loss, its sum over items estimated.

-s_t + log(exp s_t + sum over the k drawn exp(s_j - log Q)), Q = k / (V - 1) how often an item is
expected among the drawn: the sum over all other items is estimated without bias, its logarithm
nearly. Source: Bengio & Senecal, IEEE Trans. Neural Networks 2008; Jean et al., ACL 2015.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .sampled import Derivatives, SampledLoss, Scores


class SampledSoftmax(SampledLoss):
    """See the file."""

    @classmethod
    def of(cls, options: Any) -> "SampledSoftmax":
        """See `Loss`."""
        return cls(options.loss_negatives)

    def _logits(self, scores: Scores, classes: int) -> Tensor:
        """[B, 1 + k]: the target's, then those of the drawn items, corrected."""
        corrected = scores.negatives - math.log(self.count / (classes - 1))
        corrected = corrected.masked_fill(scores.hits, -torch.inf)
        return torch.cat((scores.target[:, None], corrected), 1)

    def of_scores(self, scores: Scores, classes: int) -> Tensor:
        """See `SampledLoss`."""
        return (self._logits(scores, classes).logsumexp(1) - scores.target).mean()

    def derivatives(self, scores: Scores, classes: int) -> Derivatives:
        """Softmax - [it is the target], over the rows."""
        logits = self._logits(scores, classes)
        total = logits.logsumexp(1, keepdim=True)
        share = (logits - total).exp() / len(logits)  # [B, 1 + k]
        others = share[:, 1:]
        return Derivatives((total[:, 0] - scores.target).mean(), -others.sum(1), others)


LOSS = SampledSoftmax(0)
