"""Every recorded number of the authors' implementation, in plain torch and every instruction set.

Tolerances: forward values, losses and gradients to 1e-9 of a tensor's largest entry, gradients that
are zero in theory to 1e-12, trajectory weights (recorded in float32) to 1e-6 of the largest.
"""

import pytest
import torch
from torch import Tensor

from mclrec_fast.config import TrainConfig
from mclrec_fast.models.base import Batch, Pass
from mclrec_fast.models.objective import (
    augmenter_objective,
    contrast_losses,
    encoder_objective,
)
from mclrec_fast.ops import contrast, info_nce
from mclrec_fast.ops.torch.contrast import regulariser
from mclrec_fast.training.step import TrainingStep

from .recorded import (
    BATCH,
    batch_views,
    recorded,
    recorded_gradients,
    recorded_model,
    recorded_tree,
)

PAIRS = ("h1h2", "h1z2", "h2z1", "z1z2")


def assert_recorded(ours: Tensor, theirs: Tensor, relative: float = 1e-9) -> None:
    """Equal to ``relative`` of the largest recorded entry; 1e-12 absolute where that is noise."""
    largest = float(theirs.abs().max())
    bound = 1e-12 if largest < 1e-14 else relative * largest
    assert float((ours.detach() - theirs).abs().max()) <= bound


def forward(backend: str, **options: object):  # type: ignore[no-untyped-def]
    """Model, encodings of batch 0 and targets."""
    model = recorded_model(**options)
    views, targets = batch_views(0)
    h = model.encoder(views, seed=1, update=0, backend=backend)
    return model, h.split(BATCH), targets


def test_forward(backend: str) -> None:
    model, (h0, h1, h2), targets = forward(backend)
    for name, value in (
        ("h0", h0),
        ("h1", h1),
        ("h2", h2),
        ("z1", model.augmenter_1(h1)),
        ("z2", model.augmenter_2(h2)),
        (
            "rec_loss",
            model.loss(h0, model.items(), targets, Pass(backend=backend)),
        ),
    ):
        assert_recorded(value, recorded(f"forward/{name}"))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("temperature", (1.0, 0.5))
@pytest.mark.parametrize("similarity", ("dot", "cos"))
def test_info_nce(backend: str, similarity: str, temperature: float, pair: str) -> None:
    a, b = recorded(f"forward/{pair[:2]}"), recorded(f"forward/{pair[2:]}")
    value = info_nce(a, b, temperature=temperature, similarity=similarity, backend=backend)
    assert_recorded(value, recorded(f"info_nce/{similarity}/tau{temperature}/{pair}"))


def test_contrast_and_regulariser(backend: str) -> None:
    h1, h2, z1, z2 = (recorded(f"forward/{name}") for name in ("h1", "h2", "z1", "z2"))
    cl1, cl2, r = contrast(h1, h2, z1, z2, backend=backend)
    con = {pair: recorded(f"info_nce/dot/tau1.0/{pair}") for pair in PAIRS}
    assert_recorded(cl1, con["h1h2"])
    assert_recorded(cl2, con["z1z2"] + con["h1z2"] + con["h2z1"])
    assert_recorded(r, sum(recorded(f"regulariser/{pair}") for pair in PAIRS[1:]))
    for pair in PAIRS:
        a, b = recorded(f"forward/{pair[:2]}"), recorded(f"forward/{pair[2:]}")
        assert_recorded(regulariser(a, b), recorded(f"regulariser/{pair}"))


def test_regulariser_ignores_temperature(backend: str) -> None:
    """The authors divide R by the temperature of L_cl1, 0.5 in this recording; we do not."""
    h1, h2, z1, z2 = (recorded(f"forward/{name}") for name in ("h1", "h2", "z1", "z2"))
    _, _, r = contrast(h1, h2, z1, z2, similarity="cos", temperature=0.5, backend=backend)
    theirs = sum(recorded(f"cos/regulariser/{pair}") for pair in PAIRS[1:])
    assert_recorded(r, theirs / 2)


@pytest.mark.fast
def test_first_update(backend: str) -> None:
    model, (h0, h1, h2), targets = forward(backend)
    rec = model.loss(h0, model.items(), targets, Pass(backend=backend))
    terms = contrast_losses(h1, h2, (model.augmenter_1, model.augmenter_2), model.options, backend)
    loss = encoder_objective(rec, terms, model.options)
    assert_recorded(loss, recorded("step1/loss"))
    names, weights = zip(*model.encoder.named_parameters(), strict=True)
    theirs = recorded_gradients("step1/grad/model")
    assert set(names) == set(theirs)
    gradients = torch.autograd.grad(loss, weights)
    for name, gradient in zip(names, gradients, strict=True):
        assert_recorded(gradient, theirs[name])


def test_second_update(backend: str) -> None:
    """The augmenters' loss and gradients, recorded at the initial encoder."""
    model, (_, h1, h2), _ = forward(backend)
    h1, h2 = h1.detach(), h2.detach()
    terms = contrast_losses(h1, h2, (model.augmenter_1, model.augmenter_2), model.options, backend)
    loss = augmenter_objective(terms, model.options)
    assert_recorded(loss, recorded("step2/loss"))
    for name, augmenter in (("aug_1", model.augmenter_1), ("aug_2", model.augmenter_2)):
        theirs = recorded_tree(f"step2/grad/{name}")
        weights = dict(augmenter.named_parameters())
        assert set(weights) == set(theirs)
        gradients = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for key, gradient in zip(weights, gradients, strict=True):
            assert_recorded(gradient, theirs[key])


def test_cosine_objective(backend: str) -> None:
    """L0 with cosine similarity and temperature 0.5, its R taken at temperature 1."""
    model, (h0, h1, h2), targets = forward(backend, similarity="cos", temperature=0.5)
    rec = model.loss(h0, model.items(), targets, Pass(backend=backend))
    terms = contrast_losses(h1, h2, (model.augmenter_1, model.augmenter_2), model.options, backend)
    loss = encoder_objective(rec, terms, model.options)
    theirs = recorded("cos/step1/loss")
    their_r = sum(recorded(f"cos/regulariser/{pair}") for pair in PAIRS[1:])
    weight = model.options.beta * model.options.gamma
    assert_recorded(loss + weight * (their_r - terms.reg), theirs)


@pytest.mark.parametrize(
    ("schedule", "prefix", "names"),
    [
        ("official", "trajectory", ("encoder", "augmenter", "encoder_again")),
        ("joint", "joint", ("encoder",)),
    ],
)
def test_trajectory(backend: str, schedule: str, prefix: str, names: tuple[str, ...]) -> None:
    model = recorded_model(schedule=schedule)
    step = TrainingStep(model, TrainConfig(backend=backend))
    losses = []
    for number in range(5):
        batch = Batch(*batch_views(number))
        values = step(batch, update=number * step.updates_per_batch)
        losses.append([float(values[name]) for name in names])
    theirs = recorded(f"{prefix}/losses").reshape(5, len(names))
    assert_recorded(torch.tensor(losses, dtype=torch.float64), theirs)
    final = recorded_model(f"{prefix}/final/").state_dict()
    for name, weight in model.state_dict().items():
        assert_recorded(weight, final[name], relative=1e-6)
