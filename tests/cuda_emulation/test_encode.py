"""Emulated CUDA `encode`: TF32, and an update's number read from memory.

This is emulation on a CPU, not a GPU. The rest is in test_conformance.py.
"""

import pytest
import torch

from mclrec_fast.ops import PackedSequences

from ..conformance.accuracy import assert_same_bits, largest
from ..conformance.checks import leaves
from ..conformance.encoder import ENCODE as OP
from ..conformance.op_case import Call, Results, run
from .ops import emulated


def distances(found: Results, truth: Results) -> list[float]:
    """Largest difference of h and of each gradient, relative to the largest number of the truth.

    A gradient that is 0 in theory (a key bias; a query with one key) is rounding on both sides:
    it is measured by a tenth of the largest gradient.
    """
    floor = 1e-1 * max(largest(x) for name, x in truth.items() if name.startswith("d "))
    away = [largest(found[name].double() - x) / max(largest(x), floor) for name, x in truth.items()]
    assert all(x == x for x in away)
    return away


@pytest.mark.parametrize("name", ["short", "width 10, odd inner"])
def test_tf32_products(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Tensor-core tiles: the same function up to TF32's 2**-11 a factor, and really rounded."""
    call = OP.call(name, "half")
    with emulated(monkeypatch, "random", tf32=True):
        native = run(OP, call, "native", torch.float32)
    away = distances(native, run(OP, call, "torch", torch.float64))
    assert max(away) < 2e-2
    assert away[0] > 1e-5, "the tensor-core path did not run"


@pytest.mark.parametrize("update", [0, 5, 2**32 - 1])
@pytest.mark.parametrize("setting", ["half", "other"])
def test_an_update_read_from_memory_draws_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, setting: str, update: int
) -> None:
    call = OP.call("short and narrow", setting)

    def found(update: int | torch.Tensor) -> Results:
        settings = {**call.settings, "update": update}
        return run(OP, Call(call.tensors, settings), "native", torch.float32)

    with emulated(monkeypatch):
        given, counted = found(update), found(torch.tensor(update))
        another = found(torch.tensor((update + 1) % 2**32))
    assert_same_bits(counted, given)
    assert not another["output 0"].equal(given["output 0"])


def test_an_update_changed_before_the_backward_pass_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call, number = OP.call("one token", "half"), torch.tensor(3)
    with emulated(monkeypatch):
        settings = {**call.settings, "update": number}
        h = OP.function(**leaves(call, torch.float32, "cpu"), **settings, backend="native")
        number.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            h.sum().backward()


def test_opcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    call = OP.call("few lengths all equal", "half")
    items, positions, offsets, *plain = call.tensors.values()
    batch, tail = (items, positions, offsets), (1, 0.5, 0.2, 1e-12, 3, torch.tensor(4))
    op = torch.ops.mclrec_fast.encode
    with emulated(monkeypatch):
        torch.library.opcheck(op.default, (*batch, plain, *tail, False))
        wanted = [weight.clone().requires_grad_() for weight in plain]
        # Without the dispatch check: what is kept has padding that nobody writes.
        kept = ("test_schema", "test_faketensor", "test_autograd_registration")
        torch.library.opcheck(op.default, (*batch, wanted, *tail, True), test_utils=kept)
        h, saved = op(*batch, plain, *tail, True)
        torch.library.opcheck(
            torch.ops.mclrec_fast.encode_backward.default, (h, *batch, plain, saved, *tail)
        )


@pytest.mark.parametrize("setting", ["half", "other"])
def test_a_part_of_a_batch_draws_what_the_batch_draws(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    call = OP.call("short and narrow", setting)
    rows = torch.arange(len(call.tensors["offsets"]) - 1, dtype=torch.int32)
    size = len(rows) // 2
    packed = PackedSequences(*(call.tensors[name] for name in PackedSequences._fields))
    second = {**call.tensors, **packed.rows(size, len(rows))._asdict()}

    def found(tensors: dict[str, torch.Tensor], **more: torch.Tensor) -> Results:
        return run(OP, Call(tensors, {**call.settings, **more}), "native", torch.float32)

    with emulated(monkeypatch):
        whole, part = found(call.tensors), found(second, rows=rows[size:])
        other = found(second)
    torch.testing.assert_close(part["output 0"], whole["output 0"][size:], rtol=0, atol=1e-5)
    assert not torch.allclose(other["output 0"], part["output 0"], atol=1e-2)
