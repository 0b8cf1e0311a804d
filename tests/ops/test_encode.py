"""encode: dropout's addresses and extremes, rows, threads of Python, item 0, state, NaN.

What holds for every op is in tests/conformance.
"""

import itertools
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import PackedSequences, encode
from mclrec_fast.ops.encode_weights import EMBEDDING_SHAPES, LAYER_SHAPES

from ..conformance.accuracy import assert_close64, assert_same_bits
from ..conformance.checks import leaves
from ..conformance.encoder import (
    ADDRESS,
    ENCODE,
    MIXED,
    SETTINGS,
    Shape,
    batch_of,
    make,
    numbers,
)
from ..conformance.op_case import Call, run

SMALL = Shape(MIXED, 16, 32)
NUMBER = torch.tensor(4)  # of an update, as the operators take it


def compare64(shape: Shape, **settings: Any) -> None:
    call = make(shape, settings, 0)
    truth = run(ENCODE, call, "torch", torch.float64)
    assert_close64(run(ENCODE, call, "native", torch.float64), truth, ENCODE.tolerance(call))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize("update", [0, 2**32 - 1])
def test_every_seed_and_update(seed: int, update: int) -> None:
    compare64(SMALL, **SETTINGS["other"], seed=seed, update=update)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("p", [1e-9, 1e-5, 0.4999, 0.9, 0.99999, 1 - 1e-9])
def test_extreme_dropout(p: float) -> None:
    compare64(SMALL, hidden_dropout=p, attention_dropout=p)


@pytest.mark.usefixtures("kernel")
def test_rows_do_not_depend_on_each_other() -> None:
    call = make(SMALL, SETTINGS["no dropout"], 0)
    whole = run(ENCODE, call, "native", torch.float64, wanted=())
    batch = batch_of(SMALL)
    parts = []
    for s in range(len(MIXED)):
        row = Call({**call.tensors, **batch.rows(s, s + 1)._asdict()}, call.settings)
        parts.append(run(ENCODE, row, "native", torch.float64, wanted=())["output 0"])
    assert_close64({"output 0": torch.cat(parts)}, whole, 1e-13)


@pytest.mark.usefixtures("kernel")
def test_python_threads_do_not_disturb_each_other() -> None:
    names = ["mixed", "many chunks", "lengths all equal", "width 24, one head"]

    def found(name: str) -> dict[str, Tensor]:
        return run(ENCODE, ENCODE.call(name, "half"), "native", torch.float32)

    expected = {name: found(name) for name in names}
    wrong = []

    def work(name: str) -> None:
        for _ in range(10):
            try:
                assert_same_bits(found(name), expected[name])
            except Exception as error:
                wrong.append((name, error))

    workers = [threading.Thread(target=work, args=(name,)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_no_sequences(backend: str) -> None:
    call = make(SMALL, SETTINGS["no dropout"], 0)
    call.tensors.update(items=numbers(), positions=numbers(), offsets=numbers(0))
    h, *gradients = run(ENCODE, call, backend, torch.float64).values()
    assert h.shape == (0, 16)
    assert not any(gradient.any() for gradient in gradients)


def test_item_0_gets_no_gradient_as_a_token(backend: str) -> None:
    call = ENCODE.call("masked last tokens", "no dropout")
    assert (call.tensors["items"] == 0).any()
    found = run(ENCODE, call, backend, torch.float64, wanted=["item_embedding"])
    assert found["d item_embedding"].any()
    assert not found["d item_embedding"][0].any()


@pytest.mark.parametrize("setting", SETTINGS)
def test_nan_reaches_the_rows_that_see_it(backend: str, setting: str) -> None:
    call = ENCODE.call("mixed", setting)
    call.tensors["item_embedding"][5] = torch.nan
    h = run(ENCODE, call, backend, torch.float64, wanted=())["output 0"]
    items, _, offsets = batch_of(ENCODE.shapes["mixed"])
    spans = itertools.pairwise(offsets)
    sees = torch.stack([(items[a:b] == 5).any() for a, b in spans])
    last = torch.stack([items[b - 1] == 5 for b in offsets[1:]])
    assert not h[~sees].isnan().any()
    assert h[last].isnan().all()


def test_update_in_a_tensor(backend: str) -> None:
    """On a CPU it is read; on a GPU the kernels read it."""
    call = ENCODE.call("mixed", "half")
    expected = run(ENCODE, call, backend, torch.float32)
    call.settings["update"] = torch.tensor(call.settings["update"])
    assert_same_bits(run(ENCODE, call, backend, torch.float32), expected)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_part_of_a_batch_draws_what_the_batch_draws(backend: str, setting: str) -> None:
    """Its rows, which number its sequences as the batch does, are what the draws depend on."""
    call = ENCODE.call("mixed", setting)
    weights = [w.float().requires_grad_() for w in list(call.tensors.values())[3:]]
    packed = PackedSequences(*list(call.tensors.values())[:3])
    size = len(packed.offsets) - 1
    options = {"heads": 2, "eps": 1e-12, **ADDRESS, **SETTINGS[setting], "backend": backend}
    whole = encode(packed, weights, **options)
    parts, bounds = [], [0, 5, 6, size]
    for first, last in itertools.pairwise(bounds):
        rows = torch.arange(first, last, dtype=torch.int32)
        parts.append(encode(packed.rows(first, last), weights, **options, rows=rows))
    found = torch.cat(parts)
    if backend == "torch":  # its matrix products may round otherwise for another number of rows
        torch.testing.assert_close(found, whole, rtol=0, atol=2e-5)
    else:
        assert found.equal(whole)
    direction = torch.randn_like(whole)
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, direction),
        torch.autograd.grad(whole, weights, direction),
        strict=True,
    ):
        torch.testing.assert_close(
            ours, theirs, rtol=0, atol=2e-4 * max(1, float(theirs.abs().max()))
        )


def test_rows_are_checked(backend: str) -> None:
    call = ENCODE.call("one row", "half")
    for rows in (torch.zeros(2, dtype=torch.int32), torch.zeros(1, dtype=torch.int64)):
        with pytest.raises((TypeError, ValueError), match="encode: rows must"):
            run(ENCODE, Call(call.tensors, {**call.settings, "rows": rows}), backend, torch.float32)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("shape", ["one row", "mixed", "width 72, heads of 18", "spare capacity"])
def test_backward_add_adds_to_the_item_gradient(shape: str) -> None:
    items, positions, offsets, *weights = ENCODE.call(shape, "half").tensors.values()
    batch = items, positions, offsets
    options = (ENCODE.shapes[shape].heads, 0.5, 0.2, 1e-12, 3, NUMBER)
    h, saved = torch.ops.mclrec_fast.encode(*batch, weights, *options, True)
    arguments = (h, *batch, weights, saved, *options)
    alone, *others = torch.ops.mclrec_fast.encode_backward(*arguments)
    start = torch.randn_like(alone)
    grad_items = start.clone()
    found = torch.ops.mclrec_fast.encode_backward_add(*arguments, grad_items)
    assert alone.any()
    torch.testing.assert_close(grad_items - start, alone, rtol=0, atol=1e-12)
    assert torch.equal(grad_items[0], start[0])  # item 0 gets none
    assert len(found) == len(others)
    assert all(a.equal(b) for a, b in zip(found, others, strict=True))
    torch.library.opcheck(
        torch.ops.mclrec_fast.encode_backward_add.default,
        (*arguments, start.clone()),
        # torch.compile takes no list of results from an operator that writes to its input.
        test_utils=("test_schema", "test_faketensor"),
    )
    for wrong in (start[1:], start.float(), start.t().contiguous().t()):
        with pytest.raises((TypeError, ValueError), match="encode: grad_items must"):
            torch.ops.mclrec_fast.encode_backward_add(*arguments, wrong)


@pytest.mark.usefixtures("kernel")
def test_the_kernels_check_on_their_own() -> None:
    shape = Shape([3, 2], 8, 8)
    batch, weights = batch_of(shape), list(make(shape, {}, 0).tensors.values())[3:]
    rest = (weights, 2, 0.0, 0.0, 1e-12, 0, NUMBER, True)
    op = torch.ops.mclrec_fast.encode
    bad = batch.items.clone()
    bad[0] = shape.items
    for wrong in (
        batch._replace(items=bad),
        PackedSequences(batch.items, bad, batch.offsets[:0]),
        batch._replace(items=batch.items[:4], positions=batch.positions[:4]),
    ):
        with pytest.raises(ValueError, match="encode: "):
            op(*wrong, *rest)
    for number in (torch.tensor(-1), torch.tensor(2**32), torch.tensor(1, dtype=torch.int32)):
        with pytest.raises(ValueError, match="encode: update must be"):
            op(*batch, *rest[:-2], number, True)
    h, saved = op(*batch, *rest)
    with pytest.raises(ValueError, match="saved must have shape"):
        torch.ops.mclrec_fast.encode_backward(h, *batch, weights, saved[1:], *rest[1:-1])


def test_a_wrong_number_of_weights_is_refused(backend: str) -> None:
    call = make(Shape([3, 2], 8, 8), SETTINGS["half"], 0)
    weights = list(call.tensors.values())[3:]
    for some in (weights[:-1], weights[:4]):
        with pytest.raises(ValueError, match="weights must be 4 and 16"):
            encode(batch_of(Shape([3, 2])), some, **call.settings, backend=backend)


def test_what_one_set_kept_is_not_read_as_the_layout_of_another() -> None:
    if not {"avx2", "avx512"} <= set(_native.usable_isa()):
        pytest.skip("needs avx2 and avx512")
    call = ENCODE.call("mixed", "half")
    with _native.use_isa("avx512"):
        tensors = leaves(call, torch.float32, "cpu")
        h = ENCODE.function(**tensors, **call.settings, backend="native")
    with _native.use_isa("avx2"), pytest.raises(ValueError, match="saved must have shape"):
        h.sum().backward()


@pytest.mark.skipif(not _native.available(), reason=f"no kernels: {_native.why_not()}")
def test_the_kernels_have_the_same_weights_in_the_same_order() -> None:
    module = _native.MODULES["_C"].module
    assert module is not None
    ours = [*EMBEDDING_SHAPES.items(), *LAYER_SHAPES.items()]
    assert module.encode_weights() == ours
    assert len(set(name for name, _ in ours)) == len(ours)
