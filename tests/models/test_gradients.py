"""Gradients put together by hand are those of autograd, for every model, term and sharing."""

import numpy as np
import pytest
import torch

from mclrec_fast import _native
from mclrec_fast.models import model_class
from mclrec_fast.models.base import Batch, Losses, Model, Pass, Update

from ..training.trajectory import SMALL, make_run

pytestmark = pytest.mark.skipif(not _native.available("cpu"), reason=str(_native.why_not()))

CASES = {
    "mclrec": ("mclrec", {}),
    "joint": ("mclrec", {"schedule": "joint"}),
    "one layer": ("mclrec", {"layers": 1, "schedule": "joint"}),
    "shared augmenter": ("mclrec", {"shared_augmenter": True, "schedule": "joint"}),
    "shared, apart": ("mclrec", {"shared_augmenter": True}),
    "reused views": ("mclrec", {"reuse_views": True}),
    "cl4srec": ("cl4srec", {}),
    "sasrec": ("sasrec", {}),
}
TERMS = {
    "all terms": {"lambda": 0.3, "beta": 0.2, "gamma": 0.7},
    "cosine": {
        "lambda": 0.3, "beta": 0.2, "gamma": 0.7, "similarity": "cos", "temperature": 0.5,
    },
    "without cl1": {"lambda": 0.0, "beta": 0.2, "gamma": 0.7},
    "without cl2": {"lambda": 0.3, "beta": 0.0, "gamma": 0.7},
}  # fmt: skip
KEY_BIAS = 4 + 3  # of the first layer: it adds the same to all scores of a row
LARGEST = 1e-11  # relative to the largest element of a gradient


def make(case: str, terms: str = "all terms", dtype: torch.dtype = torch.float64) -> Model:
    name, options = CASES[case]
    taken = {"cl4srec": ("lambda", "similarity", "temperature"), "sasrec": ()}
    chosen = {k: v for k, v in TERMS[terms].items() if k in taken.get(name, TERMS["cosine"])}
    if name == "cl4srec" and not chosen["lambda"]:
        pytest.skip("cl4srec without its contrast is sasrec")
    model = model_class(name)(
        hidden_size=SMALL.hidden,
        inner_size=SMALL.inner,
        max_length=SMALL.longest,
        init_std=0.1,
        **options,
        **chosen,
    )
    model.start(np.arange(SMALL.classes), 0)
    return model.to(dtype).train()


def batch_of(model: Model, size: int = SMALL.batch) -> Batch:
    return model.sample(make_run("torch").table, torch.arange(size), Pass(1, 0, "torch"))


def both(model: Model, update: Update, batch: Batch, at: Pass) -> list[tuple[Losses, list]]:
    """What the kernels and what autograd make of an update."""
    assert update.by_hand is not None
    weights = [weight for group in update.groups for weight in model.groups()[group]]
    losses = update.objective(batch, at)
    gradients = torch.autograd.grad(losses["total"], weights, materialize_grads=True)
    return [update.by_hand(batch, at), (losses, list(gradients))]


def assert_equal(found: tuple[Losses, list], expected: tuple[Losses, list]) -> None:
    assert found[0].keys() == expected[0].keys()
    for name, loss in expected[0].items():
        assert float(found[0][name]) == pytest.approx(float(loss.detach()), rel=1e-12, abs=1e-12), (
            name
        )
    assert len(found[1]) == len(expected[1])
    for number, (mine, theirs) in enumerate(zip(found[1], expected[1], strict=True)):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        # A gradient may be zero by its nature (the key's bias): measured against the loss then.
        size = max(float(theirs.abs().max()), 1e-3)
        assert float((mine - theirs).abs().max()) <= LARGEST * size, number


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("case", CASES)
def test_of_every_update(case: str, terms: str) -> None:
    model = make(case, terms)
    batch = batch_of(model)
    for number, update in enumerate(model.updates()):
        found, expected = both(model, update, batch, Pass(5, 7 + number, "native"))
        assert_equal(found, expected)
        still = {n for n, gradient in enumerate(expected[1]) if not gradient.any()}
        of_encoder = len(model.groups()["encoder"])
        unreached = range(of_encoder, len(expected[1])) if terms == "without cl2" else []
        augmenters_alone = update.groups == ("augmenter",)
        assert still <= (set() if augmenters_alone else {*unreached, KEY_BIAS, KEY_BIAS + 16})


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_one(case: str) -> None:
    model = make(case)
    batch = batch_of(model, 1)
    for number, update in enumerate(model.updates()):
        found, expected = both(model, update, batch, Pass(5, number, "native"))
        assert all(float(found[0][name]) == 0.0 for name in ("cl1", "cl2") if name in found[0])
        assert_equal(found, expected)


@pytest.mark.parametrize("case", ["mclrec", "sasrec"])
def test_without_dropout_in_evaluation_mode(case: str) -> None:
    model = make(case).eval()
    batch, update = batch_of(model), model.updates()[0]
    assert update.by_hand is not None
    first, second = (update.by_hand(batch, Pass(5, number, "native")) for number in (0, 1))
    assert_equal(first, second)


@pytest.mark.parametrize("case", CASES)
def test_leaves_weights_and_graph_alone(case: str) -> None:
    model = make(case, dtype=torch.float32)
    before = [weight.detach().clone() for weight in model.parameters()]
    batch = batch_of(model)
    for update in model.updates():
        assert update.by_hand is not None
        runs = [update.by_hand(batch, Pass(5, 3, "native"))[1] for _ in range(2)]
        assert all(a.equal(b) for a, b in zip(*runs, strict=True))
    assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


def test_the_backend_decides() -> None:
    assert make("mclrec").by_hand("torch") == (False, None)
    assert make("mclrec").by_hand("native") == (True, None)
