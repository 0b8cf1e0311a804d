"""Which weights move in which update, on which loss, and by which path."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from mclrec_fast import GRU4Rec, MCLRec, _native
from mclrec_fast.config import TrainConfig
from mclrec_fast.models import model_class
from mclrec_fast.models.augmenter import Augmenter
from mclrec_fast.models.base import Batch, Model, Pass, Update
from mclrec_fast.models.encoder import Encoder
from mclrec_fast.ops import PackedSequences
from mclrec_fast.training.step import TrainingStep

from .trajectory import SMALL, make_run

SIZES = {"hidden_size": 16, "inner_size": 32, "max_length": SMALL.longest}
TERMS = {"mclrec": {"lambda": 0.1, "beta": 0.2}, "cl4srec": {"lambda": 0.1}, "sasrec": {}}
needs_kernels = pytest.mark.skipif(not _native.available("cpu"), reason=str(_native.why_not()))


def make(model: str = "mclrec", backend: str = "torch", **options: object) -> TrainingStep:
    made = model_class(model)(**(SIZES | TERMS[model] | options))
    made.start(np.arange(SMALL.classes), 0)
    return TrainingStep(made.train(), TrainConfig(backend=backend))


def batch(step: TrainingStep, size: int) -> Batch:
    table = make_run("torch").table
    return step.model.sample(table, torch.arange(size), Pass(1, 0, "torch"))


def weights(step: TrainingStep) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in step.model.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of the model that changed."""
    return {name.split(".")[0] for name in before if not before[name].equal(after[name])}


@pytest.mark.parametrize(
    ("number", "parts"), [(0, {"encoder"}), (1, {"augmenter_1", "augmenter_2"})]
)
def test_an_update_moves_its_own_weights(number: int, parts: set[str]) -> None:
    step = make(schedule="paper")
    step._updates = [step._updates[number]]
    before = weights(step)
    step(batch(step, 12), update=0)
    assert moved(before, weights(step)) == parts


@pytest.mark.parametrize(
    ("schedule", "updates", "names"),
    [
        ("joint", 1, ["rec", "cl1", "cl2", "reg", "encoder"]),
        ("paper", 2, ["rec", "cl1", "cl2", "reg", "encoder", "augmenter"]),
        ("official", 3, ["rec", "cl1", "cl2", "reg", "encoder", "augmenter", "encoder_again"]),
    ],
)
def test_schedules(schedule: str, updates: int, names: list[str]) -> None:
    step = make(schedule=schedule)
    before = weights(step)
    losses = step(batch(step, 12), update=0)
    assert step.updates_per_batch == updates
    assert list(losses) == names
    assert moved(before, weights(step)) == {"encoder", "augmenter_1", "augmenter_2"}
    assert all(loss.isfinite() and not loss.requires_grad for loss in losses.values())


def step_of_reused_views(backend: str, *, kept: bool) -> tuple[list[int], dict[str, Tensor]]:
    """How many rows each call of the encoder had, and the weights after a batch."""
    step = make(backend=backend, reuse_views=True)
    if not kept:  # every update on its own: nobody hands the views on
        step._updates = [step.model.updates()[number] for number in range(3)]
    encoder, rows = step.model.encoder, []
    counted = encoder.forward

    def count(packed: PackedSequences, **rest: object) -> Tensor:
        rows.append(len(packed.offsets) - 1)
        return counted(packed, **rest)

    if backend == "torch":
        encoder.forward = count
    step(batch(step, 12), update=3)
    return rows, weights(step)


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_kernels)])
def test_reused_views_are_the_views_encoded_again(backend: str) -> None:
    rows, handed_on = step_of_reused_views(backend, kept=True)
    again, encoded_again = step_of_reused_views(backend, kept=False)
    if backend == "torch":
        assert (rows, again) == ([36, 24, 12], [36, 24, 24, 12])
    assert all(torch.equal(handed_on[name], encoded_again[name]) for name in handed_on)


@needs_kernels
def test_reused_views_have_the_draws_of_the_second_update() -> None:
    steps = {of: make(backend=of, reuse_views=True) for of in ("torch", "native")}
    steps["native"].model.load_state_dict(steps["torch"].model.state_dict())
    own = make(backend="torch")
    own.model.load_state_dict(steps["torch"].model.state_dict())
    losses = {of: step(batch(step, 12), update=0) for of, step in steps.items()}
    losses["own"] = own(batch(own, 12), update=0)
    for name, loss in losses["torch"].items():
        assert float(losses["native"][name]) == pytest.approx(float(loss), rel=1e-4), name
    for name in ("encoder", "augmenter"):
        assert losses["own"][name].equal(losses["torch"][name])
    assert not losses["own"]["encoder_again"].equal(losses["torch"]["encoder_again"])


def test_weights_without_gradient_still_move() -> None:
    """Dense Adam: an item of one batch keeps moving, by its momentum, in the next."""
    step = make("sasrec")
    first = batch(step, 4)
    step(first, update=0)
    item = int(first.sequences.items[0])
    before = step.model.items()[item].detach().clone()
    _, positions, offsets = first.sequences
    far = PackedSequences(torch.full_like(first.sequences.items, 29), positions, offsets)
    step(Batch(far, torch.full_like(first.targets, 29)), update=1)
    assert not before.equal(step.model.items()[item])


def test_the_objective_of_cl4srec() -> None:
    step = make("cl4srec")
    losses = step(batch(step, 12), update=0)
    assert float(losses["encoder"]) == pytest.approx(float(losses["rec"] + 0.1 * losses["cl1"]))


@pytest.mark.parametrize("schedule", ("official", "paper", "joint"))
def test_a_batch_of_one_has_no_contrast(schedule: str) -> None:
    step = make(schedule=schedule)
    before = weights(step)
    losses = step(batch(step, 1), update=0)
    assert all(float(losses[name]) == 0.0 for name in ("cl1", "cl2", "reg"))
    assert float(losses["encoder"]) == float(losses["rec"])
    assert moved(before, weights(step)) == {"encoder"}


@pytest.mark.parametrize("model", ["mclrec", "gru4rec"])
def test_dropout_is_redrawn_in_every_update(model: str) -> None:
    made = MCLRec(**SIZES) if model == "mclrec" else GRU4Rec(hidden_size=16)
    made.start(np.arange(SMALL.classes), 0)
    packed = batch(make("sasrec"), 6).sequences
    h = [made.train().represent(packed, Pass(1, update)) for update in (0, 1, 0)]
    assert h[0].equal(h[2])
    assert not h[0].equal(h[1])
    assert made.eval().represent(packed, Pass(1, 0)).equal(made.represent(packed, Pass(1, 1)))


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_optimizer_state_survives_a_round_trip(decay: float) -> None:
    straight, resumed = (
        TrainingStep(make().model, TrainConfig(backend="torch", ema_decay=decay)) for _ in range(2)
    )
    straight(batch(straight, 12), update=0)
    resumed.model.load_state_dict(straight.model.state_dict())
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    straight(batch(straight, 12), update=3)
    resumed(batch(resumed, 12), update=3)
    assert moved(weights(straight), weights(resumed)) == set()
    if decay:
        assert straight.average is not None and resumed.average is not None
        pairs = zip(straight.average.averages, resumed.average.averages, strict=True)
        assert all(a.equal(b) for a, b in pairs)


def test_shared_augmenter_is_one_module() -> None:
    model = make(shared_augmenter=True).model
    assert isinstance(model, MCLRec)
    assert model.augmenter_1 is model.augmenter_2
    assert len(model.groups()["augmenter"]) == 6


def test_the_average_of_the_weights_by_hand() -> None:
    step = TrainingStep(make("sasrec").model, TrainConfig(backend="torch", ema_decay=0.25))
    average = step.model.items().detach().clone().double()
    for number in range(3):
        step(batch(step, 12), update=number)
        keep = min(0.25, (2 + number) / (11 + number))
        average = keep * average + (1 - keep) * step.model.items().detach().double()
    assert step.average is not None
    now = step.model.items().detach().clone()
    with step.average.in_place():
        assert torch.allclose(step.model.items().double(), average, atol=1e-7)
    assert step.model.items().equal(now)


def refuse(*_: object, **__: object) -> Tensor:
    raise RuntimeError("the Python that one reads was run")


@needs_kernels
@pytest.mark.parametrize("owner", [Encoder, Augmenter, torch.nn.LayerNorm])
def test_a_replaced_forward_is_what_runs(
    owner: type[torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make(backend="native").note is None
    monkeypatch.setattr(owner, "forward", refuse)
    step = make(backend="native")
    assert step.note is not None and f"{owner.__name__}.forward was replaced" in step.note
    if owner is not torch.nn.LayerNorm:  # whose weights alone the encoder takes
        with pytest.raises(RuntimeError, match="was run"):
            step(batch(step, 12), update=0)


@needs_kernels
def test_a_forward_replaced_on_the_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    step = make(backend="native")
    monkeypatch.setattr(step.model.encoder, "forward", refuse)
    again = TrainingStep(step.model, TrainConfig(backend="native"))
    with pytest.raises(RuntimeError, match="was run"):
        again(batch(again, 12), update=0)


@needs_kernels
def test_a_weight_of_ones_own_is_trained() -> None:
    step = make("sasrec", backend="native")
    extra = torch.nn.Parameter(torch.ones(3))
    step.model.encoder.register_parameter("extra", extra)
    again = TrainingStep(step.model, TrainConfig(backend="native"))
    assert again.note is not None and "encoder.extra was added" in again.note
    again(batch(again, 12), update=0)


class Doubled(MCLRec):
    """MCLRec on an encoder's output times two."""

    def represent(self, packed: PackedSequences, at: Pass) -> Tensor:
        return 2 * super().represent(packed, at)


@needs_kernels
def test_a_subclass_is_trained_through_autograd() -> None:
    model, stock = Doubled(**SIZES), MCLRec(**SIZES)
    for made in (model, stock):
        made.start(np.arange(SMALL.classes), 0)
    step = TrainingStep(model.train(), TrainConfig(backend="native"))
    assert step.note is not None and "is a Doubled" in step.note
    ours = step(batch(step, 12), update=0)
    other = TrainingStep(stock.train(), TrainConfig(backend="native"))
    assert not ours["rec"].equal(other(batch(other, 12), update=0)["rec"])


@needs_kernels
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_hooks_and_frozen_weights(backend: str) -> None:
    step = make("sasrec", backend)
    seen = []
    step.model.encoder.register_forward_hook(lambda *_: seen.append(1))
    step.model.encoder.item_embedding.weight.requires_grad_(False)
    before = weights(step)
    again = TrainingStep(step.model, TrainConfig(backend=backend))
    assert (again.note is not None) == (backend == "native")
    again(batch(again, 12), update=0)
    assert seen
    assert before["encoder.item_embedding.weight"].equal(step.model.items())
    assert not before["encoder.layers.0.inner.weight"].equal(
        step.model.encoder.layers[0].inner.weight
    )


@needs_kernels
@pytest.mark.parametrize("name", ["mclrec", "sasrec"])
@pytest.mark.parametrize("part", ["item_embedding", "layers.0.inner", "augmenter_1"])
def test_kernels_train_around_frozen_weights(name: str, part: str) -> None:
    """Every other weight moves as it does without a frozen one."""
    ends = {}
    for frozen in (False, True):
        step = make(name, "native")
        stay = [w for n, w in step.model.named_parameters() if frozen and part in n]
        for weight in stay:
            weight.requires_grad_(False)
        before = weights(step)
        step = TrainingStep(step.model, TrainConfig(backend="native"))
        step._updates = step._updates[:1]
        step(batch(step, 12), update=0)
        ends[frozen] = weights(step)
        assert step.note is None
    for n, weight in ends[True].items():
        assert torch.equal(weight, before[n] if part in n else ends[False][n]), n
    if part in "item_embedding layers.0.inner":
        assert any(not torch.equal(ends[False][n], before[n]) for n in before if part in n)


def test_nothing_moves_where_everything_is_frozen() -> None:
    step = make("sasrec", "torch")
    step.model.requires_grad_(False)
    before = weights(step)
    frozen = TrainingStep(step.model, TrainConfig(backend="torch"))
    losses = frozen(batch(frozen, 12), update=0)
    assert losses["rec"] > 0
    assert all(before[name].equal(weight) for name, weight in weights(step).items())


class Bias(Model):
    """A model of a few lines: one weight per item, whatever the history."""

    Options = GRU4Rec.Options

    def build(self, n_classes: int) -> None:
        self.bias = torch.nn.Parameter(torch.zeros(n_classes, 1))

    def represent(self, packed: PackedSequences, at: Pass) -> Tensor:
        return torch.ones(len(packed.offsets) - 1, 1)

    def items(self) -> Tensor:
        return self.bias

    def updates(self) -> list[Update]:
        def objective(batch: Batch, at: Pass) -> dict[str, Tensor]:
            scores = self.represent(batch.sequences, at) @ self.items().T
            return {"total": torch.nn.functional.cross_entropy(scores, batch.targets)}

        return [Update("loss", ("encoder",), objective)]


def test_a_model_of_ones_own_needs_four_methods() -> None:
    model = Bias(max_length=SMALL.longest)
    model.start(np.arange(SMALL.classes), 0)
    step = TrainingStep(model, TrainConfig(backend="torch"))
    first = step(batch(step, 12), update=0)["loss"]
    for number in range(1, 20):
        last = step(batch(step, 12), update=number)["loss"]
    assert float(last) < float(first)


@needs_kernels
@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
@pytest.mark.parametrize("reuse_views", [False, True])
def test_a_kept_gradient_of_the_table_is_clean_in_every_update(
    loss: str, reuse_views: bool
) -> None:
    kept, fresh = (
        make("mclrec", "native", loss=loss, loss_negatives=5, reuse_views=reuse_views)
        for _ in range(2)
    )
    assert kept._table is not None
    fresh._table = None
    table = make_run("native").table
    for number in range(4):
        for step in (kept, fresh):
            index = torch.arange(12) + 7 * number
            step(step.model.sample(table, index, Pass(1, number)), update=3 * number)
    after, expected = weights(kept), weights(fresh)
    assert all(after[name].equal(expected[name]) for name in expected)
