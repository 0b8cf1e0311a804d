"""A whole update in one call: the bits of the kernels called in turn, and what it refuses."""

import copy

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.config import TrainConfig
from mclrec_fast.ops.update import update_step
from mclrec_fast.training.step import TrainingStep

from ..conformance.targets import CPU, Target
from .test_step import batch, make

pytestmark = pytest.mark.skipif(not _native.available("cpu"), reason=str(_native.why_not()))
OPTIONS = {
    "official": ("mclrec", {"schedule": "official", "hidden_dropout": 0.3}),
    "paper": ("mclrec", {"schedule": "paper", "lambda": 0.0}),
    "joint": ("mclrec", {"schedule": "joint", "similarity": "cos", "temperature": 0.5}),
    "shared": ("mclrec", {"schedule": "joint", "shared_augmenter": True}),
    "sasrec": ("sasrec", {}),
}


def state(step: TrainingStep) -> dict[str, Tensor]:
    found = dict(step.model.named_parameters())
    for name, optimizer in step._optimizers.items():
        tensors = optimizer.moments().tensors
        found |= {f"{name} {number}": tensor for number, tensor in enumerate(tensors)}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


@pytest.mark.parametrize("target", CPU)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_bits_are_those_of_calls_in_turn(name: str, target: Target) -> None:
    model, options = OPTIONS[name]
    with target.selected():
        calls = []
        one = make(model, backend="native", **options)
        assert one._updates[0].in_one is not None
        one._updates = [
            of._replace(in_one=lambda *a, of=of: calls.append(of.name) or of.in_one(*a))
            for of in one._updates
        ]
        turn = make(model, backend="native", **options)
        turn._updates = [of._replace(in_one=None) for of in turn._updates]
        for number in range(3):
            at = number * one.updates_per_batch
            losses = [step(batch(step, 12), update=at) for step in (one, turn)]
            assert list(losses[0]) == list(losses[1])
            for term, loss in losses[0].items():
                assert torch.equal(loss, losses[1][term]), (number, term)
        assert calls == 3 * [of.name for of in one._updates]
        after = state(turn)
        for where, tensor in state(one).items():
            assert torch.equal(tensor, after[where]), where


def test_the_number_of_the_update_may_be_a_tensor() -> None:
    of_number, of_tensor = make(backend="native"), make(backend="native")
    of_number(batch(of_number, 12), update=3)
    of_tensor(batch(of_tensor, 12), update=torch.tensor(3))
    after = state(of_number)
    assert all(torch.equal(tensor, after[where]) for where, tensor in state(of_tensor).items())


def test_parts_frozen_weights_and_other_losses_are_moved_in_turn() -> None:
    whole = make(backend="native")
    assert all(whole._moved_in_one(of) for of in whole._updates)
    model = copy.deepcopy(whole.model)
    parts = TrainingStep(model, TrainConfig(backend="native", batch_parts=2))
    assert not any(parts._moved_in_one(of) for of in parts._updates)
    model.encoder.position_embedding.weight.requires_grad_(requires_grad=False)
    frozen = TrainingStep(model, TrainConfig(backend="native"))
    assert [frozen._moved_in_one(of) for of in frozen._updates] == [False, True, False]
    for changes in ({"reuse_views": True}, {"loss": "sampled_softmax"}):
        other = make(backend="native", **changes)
        assert all(of.in_one is None for of in other._updates)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (3, None, "the encoder moves down L0 only"),
        (5, [torch.zeros(1)], "augmenters must be 0, 6 or 12 weights, got 1"),
        (11, -1, "update must be in 0..2.32-1, got -1"),
        (17, [torch.zeros(())], "encoder_moments must be two for each of"),
        (2, torch.zeros(2, dtype=torch.int32), "there must be 3 sequences for each sample, got 1"),
    ],
)
def test_bad_arguments(place: int, value: object, message: str) -> None:
    step = make(backend="native")
    sequences, targets = batch(step, 4)
    encoder, augmenters = step._optimizers["encoder"], step._optimizers["augmenter"]
    arguments = [*sequences, targets, step.model.encoder.weights(), augmenters.weights]
    arguments += [2, 0.0, 0.0, 1e-12, 1, 0, 1.0, False, 0.1, 0.1, 0.1]
    arguments += [encoder.moments().tensors, [], 1e-3, 1e-3, 0.9, 0.999, 1e-8]
    before = state(step)
    arguments[place] = value
    with pytest.raises(ValueError, match=message):
        update_step(*arguments)
    after = state(step)
    assert all(torch.equal(tensor, after[where]) for where, tensor in before.items())
