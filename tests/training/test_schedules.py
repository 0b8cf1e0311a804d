"""Which weights move in which update, on which loss."""

import copy

import pytest
import torch
from torch import Tensor

from mclrec_fast.config import Config, ContrastConfig, ModelConfig, TrainConfig
from mclrec_fast.model import MCLRec
from mclrec_fast.ops import PackedSequences
from mclrec_fast.ops.torch.augment_views import augment_views, gather_sequences
from mclrec_fast.training.schedules import TrainingStep

LOG = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(1)).to(torch.int32)


def make(
    schedule: str = "official",
    model: str = "mclrec",
    lambda_: float = 0.1,
    beta: float = 0.2,
) -> TrainingStep:
    torch.manual_seed(0)
    config = Config(
        model=ModelConfig(model=model, hidden_size=16, inner_size=32, max_length=20),
        contrast=ContrastConfig(lambda_=lambda_, beta=beta),
        train=TrainConfig(schedule=schedule, backend="torch"),
    )
    return TrainingStep(MCLRec(30, config), config)


def batch(size: int, views: bool = True) -> tuple[PackedSequences, Tensor]:
    starts = torch.arange(size) * 7
    lengths = (torch.arange(size) % 9 + 1).to(torch.int32)
    targets = torch.arange(size) % 29 + 1
    if not views:
        return gather_sequences(LOG, starts, lengths, max_length=20), targets
    packed = augment_views(
        LOG, starts, lengths, max_length=20, crop_ratio=0.5, mask_ratio=0.5, reorder_ratio=0.8,
        seed=1, batch=0,
    )  # fmt: skip
    return packed, targets


def weights(step: TrainingStep) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in step.model.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of the model that changed."""
    return {name.split(".")[0] for name in before if not before[name].equal(after[name])}


def test_encoder_update_leaves_the_augmenters() -> None:
    step, before = make(), None
    before = weights(step)
    step._update_encoder(*batch(12), 0, with_augmenters=False)
    assert moved(before, weights(step)) == {"encoder"}


def test_augmenter_update_leaves_the_encoder() -> None:
    step = make()
    before = weights(step)
    views, _ = batch(12)
    step._update_augmenters(views.rows(12, 36), 0)
    assert moved(before, weights(step)) == {"augmenter_1", "augmenter_2"}


@pytest.mark.parametrize(
    ("schedule", "updates", "names"),
    [
        ("joint", 1, {"rec", "cl1", "cl2", "reg", "encoder"}),
        ("paper", 2, {"rec", "cl1", "cl2", "reg", "encoder", "augmenter"}),
        (
            "official",
            3,
            {"rec", "cl1", "cl2", "reg", "encoder", "augmenter", "encoder_again"},
        ),
    ],
)
def test_schedules(schedule: str, updates: int, names: set[str]) -> None:
    step = make(schedule)
    before = weights(step)
    losses = step(*batch(12), update=0)
    assert step.updates_per_batch == updates
    assert set(losses) == names
    assert moved(before, weights(step)) == {"encoder", "augmenter_1", "augmenter_2"}
    assert all(loss.isfinite() and not loss.requires_grad for loss in losses.values())


def test_weights_without_gradient_still_move() -> None:
    """Dense Adam: an item of one batch keeps moving, by its momentum, in the next."""
    step = make("joint", model="sasrec", lambda_=0, beta=0)
    views, targets = batch(4, views=False)
    step(views, targets, update=0)
    item = int(views.items[0])
    before = step.model.encoder.item_embedding.weight[item].detach().clone()
    far = PackedSequences(torch.full_like(views.items, 29), views.positions, views.offsets)
    step(far, torch.full_like(targets, 29), update=1)
    assert not before.equal(step.model.encoder.item_embedding.weight[item])


@pytest.mark.parametrize(("model", "lambda_"), [("sasrec", 0.0), ("cl4srec", 0.1)])
def test_models_without_augmenters(model: str, lambda_: float) -> None:
    step = make("official", model=model, lambda_=lambda_, beta=0.0)
    assert step.updates_per_batch == 1
    assert step.uses_views == (model == "cl4srec")
    losses = step(*batch(12, views=step.uses_views), update=0)
    assert float(losses["encoder"]) == pytest.approx(float(losses["rec"] + lambda_ * losses["cl1"]))
    assert float(losses["cl2"]) == 0.0


@pytest.mark.parametrize("schedule", ("official", "paper", "joint"))
def test_a_batch_of_one_has_no_contrast(schedule: str) -> None:
    step = make(schedule)
    before = weights(step)
    losses = step(*batch(1), update=0)
    assert all(float(losses[name]) == 0.0 for name in ("cl1", "cl2", "reg"))
    assert float(losses["encoder"]) == float(losses["rec"])
    assert moved(before, weights(step)) == {"encoder"}


def test_dropout_is_redrawn_in_every_update() -> None:
    step = make()
    views, _ = batch(6)
    h = [step.model.encoder(views, seed=1, update=update) for update in (0, 1, 0)]
    assert h[0].equal(h[2])
    assert not h[0].equal(h[1])


def test_optimizer_state_survives_a_round_trip() -> None:
    straight, resumed = make(), make()
    straight(*batch(12), update=0)
    resumed.model.load_state_dict(straight.model.state_dict())
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    straight(*batch(12), update=3)
    resumed(*batch(12), update=3)
    assert moved(weights(straight), weights(resumed)) == set()


def test_shared_augmenter_is_one_module() -> None:
    config = Config(model=ModelConfig(hidden_size=16, shared_augmenter=True))
    model = MCLRec(30, config)
    assert model.augmenter_1 is model.augmenter_2
    step = TrainingStep(model, config)
    assert step._augmenter_optimizer is not None
    assert len(step._augmenter_optimizer.weights) == 6
