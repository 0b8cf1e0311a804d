"""gBCE, the generalised binary cross-entropy: binary losses that negative sampling does not skew.

-(log sigma(s_t)^beta + sum over the k drawn log(1 - sigma(s_j))) / beta, where alpha = k / (V - 2)
is the share of negatives that is drawn and beta = alpha (t (1 - 1 / alpha) + 1 / alpha): t = 0 is
plain BCE, which is overconfident; at t = 1 the estimated probabilities are calibrated.
Source: Petrov & Macdonald, *gSASRec*, RecSys 2023, with two constants of ours, which change no
order of items and not what is learned in the end:

Scores are h . e + log(beta / k), so that a model that knows nothing begins where the loss wants it,
at the odds of a drawn pair to be the target. From h . e = 0 the k negatives, all at sigma = 1/2,
would give gradients hundreds of times those of any later batch; Adam's second moments remember them
for thousands of batches, and nothing but popularity is learned meanwhile.

The whole is divided by beta, theirs by k + 1: a target counts as in the softmax, and the weights of
contrasts, which are added to it, mean what they mean there. (Theirs draws anew for every user.)
"""

import math
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

    def prior(self, classes: int) -> float:
        """What is added to every score."""
        return math.log(self.beta(classes) / self.count)

    def of_scores(self, scores: Scores, classes: int) -> Tensor:
        """See `SampledLoss`."""
        prior = self.prior(classes)
        others = softplus(scores.negatives + prior).masked_fill(scores.hits, 0.0).sum(1)
        return (softplus(-scores.target - prior) + others / self.beta(classes)).mean()

    def derivatives(self, scores: Scores, classes: int) -> Derivatives:
        """-(1 - sigma(s_t)) and sigma(s_j) / beta, over the rows."""
        rows, prior = len(scores.target), self.prior(classes)
        target = -torch.sigmoid(-scores.target - prior) / rows
        others = torch.sigmoid(scores.negatives + prior).masked_fill(scores.hits, 0.0)
        others /= rows * self.beta(classes)
        return Derivatives(self.of_scores(scores, classes), target, others)


LOSS = GBCE(1, 0.0)
