"""Checkpoints of the authors' code become runs; anything else is refused with a reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mclrec_fast.commands import evaluate, import_checkpoint, train
from mclrec_fast.commands.import_checkpoint import read_state_dict
from mclrec_fast.data import load_dataset
from mclrec_fast.errors import InputError
from mclrec_fast.evaluation import rank_samples, summary
from mclrec_fast.runs.loading import load_run
from mclrec_fast.sampling import SampleTable
from tests.small_runs import write_log

Capture = pytest.CaptureFixture[str]
HIDDEN, INNER, LENGTH, LAYERS = 8, 12, 10, 3


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "small.txt")


def authors_state(n_items: int) -> dict[str, Tensor]:
    """Random weights under the names of the authors' code."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "item_embedding.weight": [n_items + 2, HIDDEN],
        "position_embedding.weight": [LENGTH, HIDDEN],
        "LayerNorm.weight": [HIDDEN],
        "LayerNorm.bias": [HIDDEN],
    }
    for i in range(LAYERS):
        attention = f"trm_encoder.layer.{i}.multi_head_attention"
        forward = f"trm_encoder.layer.{i}.feed_forward"
        for name in ("query", "key", "value", "dense"):
            shapes |= {f"{attention}.{name}.weight": [HIDDEN, HIDDEN]}
            shapes |= {f"{attention}.{name}.bias": [HIDDEN]}
        shapes |= {f"{forward}.dense_1.weight": [INNER, HIDDEN], f"{forward}.dense_1.bias": [INNER]}
        shapes |= {
            f"{forward}.dense_2.weight": [HIDDEN, INNER],
            f"{forward}.dense_2.bias": [HIDDEN],
        }
        for name in (attention, forward):
            shapes |= {f"{name}.LayerNorm.weight": [HIDDEN], f"{name}.LayerNorm.bias": [HIDDEN]}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def items_of(log: Path) -> int:
    return load_dataset(data=str(log)).log.n_items


def import_it(file: Path, log: Path, out: Path, *more: str) -> int:
    argv = [str(file), "--data", str(log), "--out", str(out), *more]
    return import_checkpoint.main(argv)


def refused(capsys: Capture, file: Path, log: Path, out: Path, *more: str) -> str:
    capsys.readouterr()
    assert import_it(file, log, out, *more) == 2
    assert not out.exists()
    return capsys.readouterr().err


def save(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("location", ["cpu", "cuda:0"])
def test_an_imported_run_ranks_with_the_authors_weights(
    log: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    state = authors_state(items_of(log))
    with monkeypatch.context() as patch:
        # What a file saved on a GPU says about its tensors; there need be no GPU to load it.
        patch.setattr(torch.serialization, "location_tag", lambda _storage: location)
        file = save({"state_dict": state}, tmp_path / "model.pth")
    out = tmp_path / "run"
    assert import_it(file, log, out) == 0
    capsys.readouterr()
    assert evaluate.main([str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    config, model, _ = load_run(out)
    assert (config.model.layers, config.model.max_length) == (LAYERS, LENGTH)
    rows = model.encoder.item_embedding.weight
    assert torch.equal(rows, state["item_embedding.weight"][:-1])
    data = load_dataset(data=str(log))
    assert data.split.test is not None
    table = SampleTable(data.log, data.split.test, LENGTH, torch.device("cpu"))
    expected = summary(rank_samples(model, table, batch_size=50), config.train.cutoffs)
    assert expected.items() <= found["test"].items()


def test_an_imported_run_cannot_be_trained_further(
    log: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = save({"state_dict": authors_state(items_of(log))}, tmp_path / "model.pth")
    assert import_it(file, log, tmp_path / "run") == 0
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert "last.safetensors" in capsys.readouterr().err


def test_heads_are_not_in_the_file(log: Path, tmp_path: Path) -> None:
    file = save({"state_dict": authors_state(items_of(log))}, tmp_path / "model.pth")
    assert import_it(file, log, tmp_path / "run", "--set", "heads=4") == 0
    assert load_run(tmp_path / "run").config.model.heads == 4


def test_another_data_set(log: Path, tmp_path: Path, capsys: Capture) -> None:
    file = save({"state_dict": authors_state(17)}, tmp_path / "model.pth")
    message = refused(capsys, file, log, tmp_path / "run")
    assert "a checkpoint of another data set: it knows 17 items" in message


def test_another_shape(log: Path, tmp_path: Path, capsys: Capture) -> None:
    state = authors_state(items_of(log))
    file = save({"state_dict": state}, tmp_path / "model.pth")
    message = refused(capsys, file, log, tmp_path / "run", "--set", "hidden_size=16")
    assert "hidden_size is 16, but" in message
    name = "trm_encoder.layer.1.feed_forward.dense_2.weight"
    save({"state_dict": state | {name: torch.zeros(3, 3)}}, file)
    message = refused(capsys, file, log, tmp_path / "run")
    assert "weight layers.1.outer.weight has shape (3, 3)" in message
    save({"state_dict": {n: t for n, t in state.items() if n != name}}, file)
    assert "weight layers.1.outer.weight is missing" in refused(capsys, file, log, tmp_path / "run")


def test_weights_that_are_not_finite(log: Path, tmp_path: Path, capsys: Capture) -> None:
    state = authors_state(items_of(log))
    state["LayerNorm.bias"][3] = np.nan
    file = save({"state_dict": state}, tmp_path / "model.pth")
    assert "weight LayerNorm.bias is not finite" in refused(capsys, file, log, tmp_path / "run")


class Intruder:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_with_more_than_tensors_is_not_executed(
    log: Path, tmp_path: Path, capsys: Capture
) -> None:
    state = authors_state(items_of(log))
    trace = tmp_path / "trace"
    file = save({"state_dict": state, "config": Intruder(trace)}, tmp_path / "model.pth")
    message = refused(capsys, file, log, tmp_path / "run")
    assert "holds more than tensors" in message
    assert "save the weights alone" in message
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "not a torch checkpoint"),
        (b"not a checkpoint at all", "not a torch checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(
    log: Path, tmp_path: Path, capsys: Capture, content: bytes | None, words: str
) -> None:
    file = tmp_path / "model.pth"
    if content is not None:
        file.write_bytes(content)
    assert words in refused(capsys, file, log, tmp_path / "run")


def test_a_checkpoint_of_another_model(log: Path, tmp_path: Path, capsys: Capture) -> None:
    file = save({"state_dict": {"gru.weight": torch.zeros(3)}}, tmp_path / "model.pth")
    assert "not the authors' model" in refused(capsys, file, log, tmp_path / "run")
    save([1, 2], file)
    assert "holds no 'state_dict'" in refused(capsys, file, log, tmp_path / "run")


def test_an_output_directory_that_holds_a_run(log: Path, tmp_path: Path, capsys: Capture) -> None:
    file = save({"state_dict": authors_state(items_of(log))}, tmp_path / "model.pth")
    assert import_it(file, log, tmp_path / "run") == 0
    assert import_it(file, log, tmp_path / "run") == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "odd",
    [
        torch.ones(3, 2).to_sparse(),
        torch.ones(3, 2, device="meta"),
        torch.ones(3, 2, dtype=torch.complex64),
        torch.quantize_per_tensor(torch.ones(3, 2), 0.1, 0, torch.qint8),
        torch.ones(1).expand(1 << 34, 1),  # 64 GB in a file of a few bytes
        torch.nested.nested_tensor([torch.ones(3, 2), torch.ones(1, 2)]),
    ],
    ids=["sparse", "meta", "complex", "quantised", "of one number", "nested"],
)
def test_tensors_that_are_no_weights(tmp_path: Path, odd: torch.Tensor) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"item_embedding.weight": odd}}, path)
    with pytest.raises(InputError, match="model"):
        read_state_dict(path)
