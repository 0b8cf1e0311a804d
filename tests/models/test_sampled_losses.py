"""The losses over drawn items: formulas, draws, both of their paths, what they tend to."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mclrec_fast import Dataset, SASRec, _native, evaluate
from mclrec_fast.config import TrainConfig
from mclrec_fast.errors import InputError
from mclrec_fast.losses import find_loss
from mclrec_fast.losses.base import Loss
from mclrec_fast.losses.gbce import GBCE
from mclrec_fast.losses.sampled import drawn_items
from mclrec_fast.losses.sampled_softmax import SampledSoftmax
from mclrec_fast.models.base import Pass
from mclrec_fast.training.step import TrainingStep

CPU = torch.device("cpu")
LOSSES = [SampledSoftmax(20), GBCE(20, 0.75)]


def inputs(classes: int = 30, rows: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    h, items = (
        torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (rows, classes)
    )
    return h, items, torch.randint(1, classes, (rows,), generator=generator)


def test_the_draw_is_uniform_over_the_items_and_its_own_in_every_update() -> None:
    drawn = drawn_items(40_000, 11, Pass(3, 5), CPU)
    counts = drawn.bincount(minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    assert (counts[1:] - 4000).abs().max() < 5 * math.sqrt(4000)
    assert drawn.equal(drawn_items(40_000, 11, Pass(3, 5), CPU))
    assert drawn[:7].equal(drawn_items(7, 11, Pass(3, 5), CPU))
    for other in (Pass(3, 6), Pass(4, 5)):
        assert not drawn.equal(drawn_items(40_000, 11, other, CPU))
    with pytest.raises(InputError, match="items to sample"):
        drawn_items(4, 1, Pass(), CPU)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradients_by_hand_are_those_of_autograd(loss: Loss) -> None:
    h, items, targets = inputs()
    at = Pass(1, 2)
    assert (drawn_items(20, 30, at, CPU) == targets[:, None]).any()  # some are hit
    value, *gradients = loss.by_hand(h, items, targets, at)
    leaves = h.requires_grad_(), items.requires_grad_()
    expected = loss(*leaves, targets, at)
    torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-14)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_sampled_softmax_by_its_formula_and_its_limit() -> None:
    h, items, targets = inputs()
    at = Pass(1, 2)
    scores, drawn = h @ items.t(), drawn_items(20, 30, at, CPU)
    others = scores[:, drawn] - math.log(20 / 29)
    others[drawn == targets[:, None]] = -torch.inf
    own = scores.gather(1, targets[:, None])
    expected = cross_entropy(torch.cat((own, others), 1), torch.zeros(12, dtype=torch.int64))
    torch.testing.assert_close(SampledSoftmax(20)(h, items, targets, at), expected)
    many = SampledSoftmax(400_000)(h, items, targets, at)
    exact = cross_entropy(scores[:, 1:], targets - 1)  # item 0 is never drawn
    assert float(many) == pytest.approx(float(exact), rel=2e-2)
    assert float(SampledSoftmax(20)(h, items, targets, at)) != pytest.approx(float(exact), rel=2e-2)


def test_gbce_by_its_formula_and_its_ends() -> None:
    h, items, targets = inputs()
    at = Pass(1, 2)
    scores, drawn = h @ items.t(), drawn_items(20, 30, at, CPU)
    own, others = scores.gather(1, targets[:, None]), scores[:, drawn]
    hits = drawn == targets[:, None]
    assert GBCE(20, 0.0).beta(30) == 1
    assert GBCE(20, 1.0).beta(30) == pytest.approx(20 / 28)
    assert GBCE(20, 0.75).beta(30) == pytest.approx(1 - 0.75 * (1 - 20 / 28))
    assert GBCE(100, 0.75).beta(30) == 1  # more are drawn than there are
    for t in (0.0, 0.75):
        beta = GBCE(20, t).beta(30)
        prior = math.log(beta / 20)
        parts = [
            -beta * torch.sigmoid(own + prior).log(),
            -(1 - torch.sigmoid(others + prior)).log().masked_fill(hits, 0.0),
        ]
        expected = torch.cat(parts, 1).sum(1).mean() / beta
        torch.testing.assert_close(GBCE(20, t)(h, items, targets, at), expected)
    labels = torch.cat((torch.ones_like(own), torch.zeros_like(others)), 1)
    shifted = torch.cat((own, others), 1) - math.log(20)
    plain = binary_cross_entropy_with_logits(shifted, labels, reduction="none")
    plain[:, 1:][hits] = 0.0
    torch.testing.assert_close(GBCE(20, 0.0)(h, items, targets, at), plain.sum(1).mean())


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_begins_where_nothing_is_known(t: float) -> None:
    """Scores of 0: one common push would change nothing, whatever is drawn."""
    loss, classes = GBCE(256, t), 5002
    h, items = torch.ones(4, 8, dtype=torch.float64), torch.zeros(classes, 8, dtype=torch.float64)
    targets = torch.tensor([1, 2, 3, 4])
    scores = loss._scores(h, items, targets, Pass(1, 2))
    scores = scores._replace(hits=torch.zeros_like(scores.hits))
    found = loss.derivatives(scores, classes)
    assert float(found.target.sum() + found.negatives.sum()) == pytest.approx(0, abs=1e-12)


def _follows(loss: str, **options: float) -> float:
    """How often SASRec's best ten hold what comes next, after six epochs of items in a circle."""
    rng = np.random.default_rng(0)
    walks = (rng.integers(0, 400, 900)[:, None] + np.arange(9)) % 400
    users = np.repeat(np.arange(900), 9)
    dataset = Dataset.from_frame({"user": users, "item": walks.reshape(-1)})
    model = SASRec(loss=loss, loss_negatives=64, hidden_size=32, **options)
    model.fit(dataset, epochs=6, batch_size=64, threads=1, verbose=False)
    return float(evaluate(model, dataset)["valid"]["unmasked"]["hr@10"])


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_learns_as_fast_as_the_softmax(t: float) -> None:
    """It once learned popularity alone, for as long as Adam remembered its first batches."""
    assert _follows("gbce", gbce_t=t) > 0.8 * _follows("softmax") > 0.4


@pytest.mark.parametrize("name", ["sampled_softmax", "gbce"])
def test_models_train_on_them_by_the_encoders_kernels(name: str) -> None:
    model = SASRec(loss=name, loss_negatives=9, hidden_size=16, inner_size=32, max_length=10)
    model.start(np.arange(40), 0)
    assert find_loss(name).of(model.options).count == 9  # type: ignore[attr-defined]
    step = TrainingStep(model.train(), TrainConfig())
    assert step._by_hand == _native.available("cpu") and step.note is None
