"""Checkpoints: what goes in comes out, to the bit, and nothing else is accepted."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from mclrec_fast.errors import InputError
from mclrec_fast.runs import checkpoint
from mclrec_fast.runs.checkpoint import Progress, pack, unpack

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_tree_survives_json(tree: object) -> None:
    packed = json.loads(json.dumps(pack(tree, {})))
    found = unpack(packed, {})
    assert repr(found) == repr(tree)


def test_things_that_cannot_be_saved_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'/a/1' holds a set"):
        pack({"a": [1, {2}]}, {})


def trained(steps: int, seed: int = 0) -> tuple[nn.Module, torch.optim.Adam]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return model, optimizer


def test_model_and_optimizer_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    straight, _ = trained(5)
    model, optimizer = trained(2)
    state = {"adam": optimizer.state_dict()}
    progress = Progress(epoch=1, batch=2, step=3, losses={"rec": 1 / 3}, best_value=math.pi)
    checkpoint.save_state(tmp_path / "last", model, state, progress)

    found = checkpoint.load_state(tmp_path / "last")
    assert found.progress == progress
    assert found.best is None
    model, optimizer = trained(0, seed=1)
    checkpoint.load_weights(model, found.model, "last")
    optimizer.load_state_dict(found.optimizers["adam"])
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_shared_weights_are_saved_under_both_names(tmp_path: Path) -> None:
    model = nn.Module()
    model.first = model.second = nn.Linear(2, 2)
    checkpoint.save_state(tmp_path / "last", model, {}, Progress())
    assert len(checkpoint.load_state(tmp_path / "last").model) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("bias"), "weight bias is missing: a checkpoint of another model"),
        (
            lambda w: w.update(bias=torch.zeros(3)),
            r"bias has shape \(3,\), this model needs \(2,\)",
        ),
        (lambda w: w.update(more=torch.zeros(3)), "weight more has no place in this model"),
    ],
)
def test_weights_that_do_not_fit(change: object, words: str) -> None:
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    change(weights)  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        checkpoint.load_weights(model, weights, "file")
    assert torch.equal(model.weight, before)


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.read(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.read(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not one of mclrec_fast"):
        checkpoint.read(path)
    save_file(
        {"a": torch.zeros(1)}, path, {"format": "mclrec_fast", "header": "{}", "version": "9"}
    )
    with pytest.raises(InputError, match="checkpoint version 9, this is version 2"):
        checkpoint.read(path)
    checkpoint.write(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(InputError, match="holds weights, not the state of a run"):
        checkpoint.load_state(path)


def test_any_safetensors_reader_reads_it(tmp_path: Path) -> None:
    """All types and shapes, names beyond ASCII, tensors that are not contiguous."""
    tensors = {
        "a/ü": torch.randn(3, 5),
        "number": torch.tensor(7),
        "double": torch.randn(2, dtype=torch.float64),
        "truth": torch.tensor([True, False, True]),
        "none": torch.empty(0, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "turned": torch.randn(4, 6).t(),
    }
    checkpoint.write(tmp_path / "x.safetensors", tensors, {"said": "ü"})
    found = load_file(tmp_path / "x.safetensors")
    read, header = checkpoint.read(tmp_path / "x.safetensors")
    assert header == {"said": "ü"}
    for name, tensor in tensors.items():
        for other in (found[name], read[name]):
            assert other.dtype == tensor.dtype and torch.equal(other, tensor)


def test_a_state_is_written_without_a_copy() -> None:
    """Of a million items a copy is hundreds of MB, and there once were three."""
    model = torch.nn.Linear(6, 5)
    tensors: dict[str, torch.Tensor] = {}
    checkpoint.pack(model.state_dict(), tensors, "model")
    pieces = list(checkpoint._pieces(tensors, {}))
    places = {np.frombuffer(piece, np.uint8).ctypes.data for piece in pieces}
    assert {weight.data_ptr() for weight in model.parameters()} <= places
