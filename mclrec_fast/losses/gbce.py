"""gBCE, the generalised binary cross-entropy: binary losses that negative sampling does not skew.

-(log sigma(s_t)^beta + sum over the k drawn log(1 - sigma(s_j))) / (k + 1), where alpha = k / (V -
2) is the share of negatives that is drawn and beta = alpha (t (1 - 1 / alpha) + 1 / alpha): t = 0
is plain BCE, which is overconfident; at t = 1 the estimated probabilities are calibrated.
Source: Petrov & Macdonald, *gSASRec*, RecSys 2023 (theirs draws anew for every user).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .sampled import Derivatives, SampledLoss, Scores


class GBCE(SampledLoss):
    """See the file."""

    def __init__(self, count: int, t: float) -> None:
        """With so many negatives, calibrated by t."""
        super().__init__(count)
        self._t = t

    @classmethod
    def of(cls, options: Any) -> "GBCE":
        """See `Loss`."""
        return cls(options.loss_negatives, options.gbce_t)

    def beta(self, classes: int) -> float:
        """The power of the target's probability, 0 < beta <= 1."""
        alpha = min(1.0, self.count / max(1, classes - 2))
        return alpha * (self._t * (1 - 1 / alpha) + 1 / alpha)

    def of_scores(self, scores: Scores, classes: int) -> Tensor:
        """See `SampledLoss`."""
        negatives = softplus(scores.negatives).masked_fill(scores.hits, 0.0).sum(1)
        found = self.beta(classes) * softplus(-scores.target) + negatives
        return found.mean() / (self.count + 1)

    def derivatives(self, scores: Scores, classes: int) -> Derivatives:
        """-beta (1 - sigma(s_t)) and sigma(s_j), over rows and draws."""
        every = len(scores.target) * (self.count + 1)
        target = -self.beta(classes) * torch.sigmoid(-scores.target) / every
        negatives = torch.sigmoid(scores.negatives).masked_fill(scores.hits, 0.0) / every
        return Derivatives(self.of_scores(scores, classes), target, negatives)


LOSS = GBCE(0, 0.0)
