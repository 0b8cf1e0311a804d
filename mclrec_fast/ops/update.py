"""One update of a batch in one call, from packed sequences to new weights: `update_step`.

Holds the schema; the kernel is csrc/ops_cpu/update.cpp, for CPUs only. It calls the kernels of
`encode`, `item_cross_entropy`, `augmenter`, `contrast` and `adam_step` one behind the other, and no
Python comes between them; its twin is calling them so (models/mclrec.py). Its caller is models/.
"""

from typing import Any

import torch
from torch import Tensor

from ._shared import define_op


def _fake(items: Tensor, *arguments: object) -> Tensor:
    encoder = arguments[3]
    assert isinstance(encoder, list | tuple)
    losses: Tensor = encoder[0].new_empty(5)
    return losses


# L0 is minimised where there are targets, and else L1 (see models/objective.py). Sequences are B
# histories and both views of each, without targets the views alone, without augmenters the
# histories alone. Moments are the means of the gradients of all weights, those of their squares and
# the steps; none for weights that stay. The result is [rec, cl1, cl2, regulariser, total].
define_op(
    "update_step",
    "(Tensor items, Tensor positions, Tensor offsets, Tensor? targets, Tensor(a!)[] encoder, "
    "Tensor(b!)[] augmenters, int heads, float hidden_dropout, float attention_dropout, float eps, "
    "int seed, int update, float temperature, bool cosine, float lambda_, float beta, float gamma, "
    "Tensor(c!)[] encoder_moments, Tensor(d!)[] augmenter_moments, float encoder_rate, "
    "float augmenter_rate, float beta_1, float beta_2, float adam_eps) -> Tensor",
    _fake,
)


@torch.inference_mode()
def update_step(*arguments: Any) -> Tensor:
    """The operator without autograd, which it has no use for."""
    losses: Tensor = torch.ops.mclrec_fast.update_step.default(*arguments)
    return losses
