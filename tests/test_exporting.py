"""Exports: what is written answers as the model does, and what cannot be is refused by name."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mclrec_fast import CL4SRec, Dataset, GRU4Rec, MCLRec, Model, Popularity, SASRec
from mclrec_fast.commands import export
from mclrec_fast.data.vectors import read_vectors
from mclrec_fast.errors import InputError, RunError
from mclrec_fast.exporting.export import HISTORIES
from mclrec_fast.exporting.formats import FORMATS
from mclrec_fast.exporting.padded import Answering
from mclrec_fast.models.base import Pass
from mclrec_fast.ops import PackedSequences

LOG = Path(__file__).parent / "data" / "cases" / "own_train.csv"
SIZES = {"hidden_size": 8, "heads": 2, "inner_size": 16, "max_length": 12, "layers": 2}
QUICK: dict[str, Any] = {"epochs": 1, "threads": 1, "verbose": False}


def of(cls: type[Model], **changes: int) -> Model:
    names = cls.Options.__dataclass_fields__
    model = cls(**{name: value for name, value in (SIZES | changes).items() if name in names})
    return model.fit(Dataset.from_file(LOG), **QUICK, learning_rate=0.05)


@pytest.fixture(scope="module")
def sasrec() -> Model:
    return of(SASRec)


def need(format: str) -> None:
    for library in FORMATS[format].needs:
        pytest.importorskip(library)


@pytest.mark.parametrize("cls", [SASRec, CL4SRec, MCLRec, GRU4Rec])
def test_the_padded_form_is_the_model(cls: type[Model]) -> None:
    """In float64, against the packed encoder, for every length."""
    model = of(cls).double()
    rng = np.random.default_rng(1)
    histories = [rng.integers(1, model.n_classes, n) for n in range(1, 13)]
    padded = torch.zeros(12, 12, dtype=torch.int64)
    for row, history in zip(padded, histories, strict=True):
        row[: len(history)] = torch.from_numpy(history)
    packed = PackedSequences(
        torch.from_numpy(np.concatenate(histories).astype(np.int32)),
        torch.from_numpy(np.concatenate([np.arange(n) for n in range(1, 13)]).astype(np.int32)),
        torch.from_numpy(np.cumsum([0, *range(1, 13)]).astype(np.int32)),
    )
    expected = model.represent(packed, Pass(backend="torch"))
    h, scores, rows = Answering(model, 5, True).eval()(padded)
    torch.testing.assert_close(h, expected, rtol=1e-12, atol=1e-12)
    for row, history in enumerate(histories):
        order = (expected[row] @ model.items().T).argsort(descending=True).tolist()
        wanted = [item for item in order if item != 0 and item not in history][:5]
        assert rows[row].tolist() == wanted
    assert torch.equal(scores, scores.sort(descending=True).values)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_read_back_is_the_model(format: str, sasrec: Model, tmp_path: Path) -> None:
    need(format)
    found = sasrec.export(tmp_path / f"a{FORMATS[format].suffix}", k=4)
    assert found.format == format and found.items == 50
    assert all(value < 1e-5 for value in found.differences.values())
    assert found.same_lists == (None if format in ("npy", "safetensors") else HISTORIES)
    read, says = FORMATS[format].read(found.path)
    assert (found.beside is None) == bool(says)
    if found.beside is not None:
        says = json.loads(found.beside.read_text())
    assert sasrec.item_ids is not None and says["item_ids"] == sasrec.item_ids[1:].tolist()
    assert says["model"] == "sasrec"
    if FORMATS[format].of_model:
        padded = np.zeros((3, 12), np.int64)
        padded[0, :2], padded[1, :1], padded[2] = (7, 3), 9, 1
        h, scores, rows = read(padded)
        assert h.shape == (3, 8) and scores.shape == rows.shape == (3, 4)
        assert not {7, 3} & set(rows[0].tolist())
        ids = [says["item_ids"][row - says["rows_from"]] for row in (7, 3)]
        answer = sasrec.recommend([ids], k=4).items[0]
        assert [says["item_ids"][row - 1] for row in rows[0]] == answer
    else:
        assert np.array_equal(read, sasrec.item_embeddings)


@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize("cls", [MCLRec, GRU4Rec])
def test_other_models_leave_too(format: str, cls: type[Model], tmp_path: Path) -> None:
    need(format)
    found = of(cls, max_length=4).export(tmp_path / "a", format, exclude_seen=False)
    assert found.same_lists == HISTORIES and max(found.differences.values()) < 1e-4


def test_exports_begin_other_models(sasrec: Model, tmp_path: Path) -> None:
    """Item vectors that were exported are item vectors from outside."""
    first = sasrec.export(tmp_path / "a.npy")
    second = sasrec.export(tmp_path / "a.safetensors")
    for found in (
        read_vectors(str(first.path), str(first.beside)),
        read_vectors(str(second.path)),
    ):
        assert np.array_equal(found.table, sasrec.item_embeddings)
        assert sasrec.item_ids is not None and found.ids == sasrec.item_ids[1:].tolist()


def test_the_popularity_floor_has_items_alone(tmp_path: Path) -> None:
    model = of(Popularity)
    assert model.export(tmp_path / "a.npy").differences == {"vectors": 0.0}
    with pytest.raises(InputError, match="has no encoder that could leave as torch or onnx"):
        model.export(tmp_path / "a.pt2")
    assert not (tmp_path / "a.pt2").exists()


def test_the_command(sasrec: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sasrec.save(tmp_path / "saved")
    out = tmp_path / "a.pt2"
    assert export.main([str(tmp_path / "saved"), "--out", str(out), "--k", "3", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["format"] == "torch" and found["same_lists"] == HISTORIES
    assert "read back; largest difference from the model: representations " in said.err
    assert f"the same best items for {HISTORIES} of {HISTORIES} histories" in said.err
    for words, *argv in (
        ("its name says no format", "--out", str(tmp_path / "a.bin")),
        ("its folder does not exist", "--out", str(tmp_path / "gone" / "a.npy")),
        ("is a folder", "--out", str(tmp_path), "--format", "npy"),
        ("--k '0'", "--out", str(out), "--k", "0"),
        ("invalid choice: 'onxx'", "--out", str(out), "--format", "onxx"),
        ("the following arguments are required: --out",),
    ):
        assert export.main([str(tmp_path / "saved"), *argv]) == 2
        text = capsys.readouterr().err
        assert words in text and "Traceback" not in text
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"saved", "a.pt2"}


def test_a_missing_library_is_said(
    sasrec: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("onnx", "faiss"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", without)
    for format in ("onnx", "faiss"):
        with pytest.raises(InputError, match=r'pip install "mclrec_fast\[export\]"'):
            sasrec.export(tmp_path / "a", format)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_the_model_is_not_kept(sasrec: Model, tmp_path: Path) -> None:
    class Other(SASRec):
        def represent(self, packed: PackedSequences, at: Pass) -> torch.Tensor:
            return 2 * super().represent(packed, at)

    (tmp_path / "a.pt2").write_text("before")
    other = Other(sasrec.options)
    assert sasrec.item_ids is not None
    other.start(sasrec.item_ids, 0)
    with pytest.raises(RunError, match="not kept: its representations are up to"):
        other.export(tmp_path / "a.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt2"]
    assert (tmp_path / "a.pt2").read_text() == "before"
    with pytest.raises(InputError, match="did you mean 'onnx'"):
        sasrec.export(tmp_path / "a", "onxx")
    with pytest.raises(InputError, match="no weights yet"):
        SASRec().export(tmp_path / "a.npy")
