"""Gradients put together by hand are those of autograd, for every model, term and sharing."""

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.config import Config, ContrastConfig, ModelConfig, TrainConfig
from mclrec_fast.model import MCLRec
from mclrec_fast.model.gradients import AutogradGradients, gradients_of
from mclrec_fast.model.kernel_gradients import KernelGradients
from mclrec_fast.ops import PackedSequences

from ..training.trajectory import SMALL, Sizes, make_run, next_batch

needs_kernels = pytest.mark.skipif(not _native.available("cpu"), reason=str(_native.why_not()))

CASES = {
    "mclrec": ModelConfig(),
    "one layer": ModelConfig(layers=1),
    "shared augmenter": ModelConfig(shared_augmenter=True),
    "cl4srec": ModelConfig(model="cl4srec"),
    "sasrec": ModelConfig(model="sasrec"),
}
TERMS = {
    "all terms": ContrastConfig(lambda_=0.3, beta=0.2, gamma=0.7),
    "cosine": ContrastConfig(lambda_=0.3, beta=0.2, gamma=0.7, similarity="cos", temperature=0.5),
    "without cl1": ContrastConfig(lambda_=0.0, beta=0.2, gamma=0.7),
    "without cl2": ContrastConfig(lambda_=0.3, beta=0.0, gamma=0.7),
}
WITH_CL1 = ("all terms", "cosine", "without cl2")
KEY_BIAS = 4 + 3  # of the first layer: it adds the same to all scores of a row
LARGEST = 1e-11  # relative to the largest element of a gradient


def make(
    case: str, terms: str, backend: str = "native", dtype: torch.dtype = torch.float64
) -> tuple[MCLRec, Config]:
    chosen = CASES[case]
    config = Config(
        model=ModelConfig(
            model=chosen.model,
            layers=chosen.layers,
            shared_augmenter=chosen.shared_augmenter,
            hidden_size=SMALL.hidden,
            inner_size=SMALL.inner,
            max_length=SMALL.longest,
            init_std=0.1,
        ),
        contrast=TERMS[terms],
        train=TrainConfig(backend=backend, seed=5),
    )
    torch.manual_seed(0)
    return MCLRec(SMALL.classes, config).to(dtype).train(), config


def views_of(model: str, batch: int = SMALL.batch) -> tuple[PackedSequences, Tensor]:
    sizes = Sizes(**(vars(SMALL) | {"batch": batch}))
    views, targets, _ = next_batch(make_run("torch", model=model, sizes=sizes))
    return views, targets


def assert_equal(
    found: tuple[dict[str, Tensor], list[Tensor]], expected: tuple[dict[str, Tensor], list[Tensor]]
) -> None:
    assert found[0].keys() == expected[0].keys()
    for name, loss in expected[0].items():
        assert float(found[0][name]) == pytest.approx(float(loss), rel=1e-12, abs=1e-12), name
    assert len(found[1]) == len(expected[1])
    for number, (mine, theirs) in enumerate(zip(found[1], expected[1], strict=True)):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        # A gradient may be zero by its nature (the key's bias): measured against the loss then.
        size = max(float(theirs.abs().max()), 1e-3)
        assert float((mine - theirs).abs().max()) <= LARGEST * size, number


@needs_kernels
@pytest.mark.parametrize("with_augmenters", [False, True])
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("case", CASES)
def test_of_the_encoders_objective(case: str, terms: str, with_augmenters: bool) -> None:
    model, config = make(case, terms)
    if CASES[case].model != "mclrec" and (CASES[case].model == "cl4srec") != (terms in WITH_CL1):
        pytest.skip("this model without augmenters is the other one's case")
    views, targets = views_of(CASES[case].model)
    by_hand, by_autograd = KernelGradients(model, config), AutogradGradients(model, config)
    found, expected = (
        gradients.encoder(views, targets, 7, with_augmenters=with_augmenters)
        for gradients in (by_hand, by_autograd)
    )
    count = len(model.encoder.weights())
    count += len(model.augmenter_weights()) if with_augmenters else 0
    assert len(found[1]) == count
    assert_equal(found, expected)
    still = [number for number, gradient in enumerate(expected[1]) if not gradient.any()]
    encoder_weights = len(model.encoder.weights())
    unreached = range(encoder_weights, count) if config.contrast.beta == 0 else []
    assert set(still) <= {*unreached, KEY_BIAS, KEY_BIAS + 16}


@needs_kernels
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("case", ["mclrec", "one layer", "shared augmenter"])
def test_of_the_augmenters_objective(case: str, terms: str) -> None:
    model, config = make(case, terms)
    views, targets = views_of("mclrec")
    views = views.rows(len(targets), 3 * len(targets))
    found, expected = (
        gradients.augmenters(views, 8)
        for gradients in (KernelGradients(model, config), AutogradGradients(model, config))
    )
    assert len(found[1]) == len(model.augmenter_weights())
    assert_equal(found, expected)
    assert all(bool(gradient.any()) for gradient in expected[1])


@needs_kernels
def test_a_batch_of_one() -> None:
    model, config = make("mclrec", "all terms")
    views, targets = views_of("mclrec", batch=1)
    found, expected = (
        gradients.encoder(views, targets, 0, with_augmenters=True)
        for gradients in (KernelGradients(model, config), AutogradGradients(model, config))
    )
    assert float(found[0]["cl2"]) == 0.0
    assert_equal(found, expected)


@needs_kernels
def test_without_dropout_in_evaluation_mode() -> None:
    model, config = make("mclrec", "all terms")
    model.eval()
    views, targets = views_of("mclrec")
    gradients = KernelGradients(model, config)
    first, second = (gradients.encoder(views, targets, n, with_augmenters=False) for n in (0, 1))
    assert_equal(first, second)


@needs_kernels
def test_leaves_weights_and_graph_alone() -> None:
    model, config = make("mclrec", "all terms", dtype=torch.float32)
    before = [weight.detach().clone() for weight in model.parameters()]
    views, targets = views_of("mclrec")
    gradients = KernelGradients(model, config)
    runs = [gradients.encoder(views, targets, 3, with_augmenters=True)[1] for _ in range(2)]
    assert all(a.equal(b) for a, b in zip(*runs, strict=True))
    assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


def test_the_backend_decides() -> None:
    model, config = make("mclrec", "all terms", backend="torch")
    assert isinstance(gradients_of(model, config), AutogradGradients)
    if _native.available("cpu"):
        model, config = make("mclrec", "all terms")
        assert isinstance(gradients_of(model, config), KernelGradients)
