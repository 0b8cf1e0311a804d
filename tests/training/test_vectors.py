"""Item vectors from outside: every format gives the same rows, and what does not fit is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mclrec_fast import GRU4Rec, MCLRec, Model, Popularity, SASRec, load
from mclrec_fast.commands import train
from mclrec_fast.data import Dataset, load_ids
from mclrec_fast.data.vectors import read_vectors
from mclrec_fast.errors import InputError
from mclrec_fast.runs import checkpoint
from mclrec_fast.training import fit as fitting
from mclrec_fast.training.fit import Job
from tests.small_runs import assert_same_run

CASES = Path(__file__).parents[1] / "data" / "cases"
LOG = CASES / "own_train.csv"
QUICK: dict[str, Any] = {"epochs": 1, "threads": 1, "verbose": False}
SIZES = ["--set", "hidden_size=6", "--set", "heads=2", "--set", "inner_size=8"]
IDS = [*range(0, 51, 2), 901, 902]  # the log has 0..50 but for one
rng = np.random.default_rng(0)
TABLE = rng.standard_normal((len(IDS), 6)).astype(np.float32)


def write_npz(path: Path) -> None:
    np.savez(path, ids=np.array(IDS), vectors=TABLE)


def write_safetensors(path: Path) -> None:
    save_file({"vectors": TABLE}, path, {"item_ids": json.dumps(list(map(str, IDS)))})


def write_tensors(path: Path) -> None:
    save_file({"item_ids": np.array(IDS), "weight": TABLE}, path)


def write_parquet(path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"name": [f"thing {i}" for i in IDS], "item": IDS, "v": TABLE.tolist()})
    pa.parquet.write_table(table, path)


def write_word2vec(path: Path, header: bool = True) -> None:
    lines = [
        " ".join([str(i), *map(repr, row.tolist())]) for i, row in zip(IDS, TABLE, strict=True)
    ]
    path.write_text("\n".join([f"{len(IDS)} 6"] * header + lines) + "\n")


def write_glove(path: Path) -> None:
    write_word2vec(path, header=False)


FORMATS: dict[str, Callable[[Path], None]] = {
    "a.npz": write_npz, "a.safetensors": write_safetensors, "b.safetensors": write_tensors,
    "a.parquet": write_parquet, "a.vec": write_word2vec, "a.txt": write_glove,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_vectors(name: str, tmp_path: Path) -> None:
    if name == "a.parquet":
        pytest.importorskip("pyarrow.parquet")
    FORMATS[name](tmp_path / name)
    found = read_vectors(str(tmp_path / name))
    assert [int(value) for value in found.ids] == IDS
    assert np.array_equal(found.table, TABLE) and found.table.dtype == np.float32


@pytest.mark.parametrize("names", ["ids.txt", "ids.npy"])
def test_rows_whose_ids_are_in_another_file(names: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TABLE.astype(np.float64))
    ids = tmp_path / names
    if names == "ids.txt":
        ids.write_text("".join(f"{value}\n" for value in IDS))
    else:
        np.save(ids, np.array(IDS))
    found = read_vectors(str(tmp_path / "a.npy"), str(ids))
    assert [int(value) for value in found.ids] == IDS and np.array_equal(found.table, TABLE)


# What becomes of them.


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The item tables that trainings begin with."""
    seen: list[torch.Tensor] = []
    inner = fitting._train

    def looking(job: Job, *rest: Any) -> Any:
        seen.append(job.model.items().detach().clone())
        return inner(job, *rest)

    monkeypatch.setattr(fitting, "_train", looking)
    return seen


def of(cls: type[Model]) -> Model:
    names = cls.Options.__dataclass_fields__
    sizes = {"hidden_size": 6, "heads": 2, "inner_size": 8}
    return cls(**{name: value for name, value in sizes.items() if name in names})


@pytest.mark.parametrize("cls", [MCLRec, SASRec, GRU4Rec])
def test_rows_are_the_vectors_and_the_rest_as_usual(
    cls: type[Model], began: list[torch.Tensor], tmp_path: Path
) -> None:
    write_npz(tmp_path / "a.npz")
    dataset = Dataset.from_file(LOG)
    of(cls).fit(dataset, **QUICK)
    model = of(cls).fit(dataset, item_embeddings=tmp_path / "a.npz", freeze="items", **QUICK)
    ids = dataset.log.item_ids.tolist()
    for row in range(len(ids)):
        known = row > 0 and ids[row] in IDS
        expected = torch.from_numpy(TABLE[IDS.index(ids[row])]) if known else began[0][row]
        assert torch.equal(began[1][row], expected), row
    assert torch.equal(model.items(), began[1])  # frozen
    as_dict = dict(zip(IDS, TABLE, strict=True))
    for given in (as_dict, (IDS, TABLE), (list(map(str, IDS)), torch.from_numpy(TABLE))):
        of(cls).fit(dataset, item_embeddings=given, **QUICK)
        assert torch.equal(began[-1], began[1])


def trained(*argv: str) -> int:
    return train.main(["--threads", "1", "--model", "sasrec", "--epochs", "2", *SIZES, *argv])


def test_the_command_says_how_many_and_a_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_word2vec(tmp_path / "a.vec")
    argv = ["--data", str(LOG), "--item-embeddings", str(tmp_path / "a.vec")]
    assert trained(*argv, "--out", str(tmp_path / "run")) == 0
    said = capsys.readouterr().out
    found = len(set(IDS) & set(load_ids(tmp_path / "run").item_ids[1:].tolist()))
    assert f"{found} items from {tmp_path / 'a.vec'}, 6 wide" in said and found > 20
    assert f"{50 - found} items have none: they begin as usual" in said
    assert f"{len(IDS) - found} vectors are of other items: passed over" in said
    start = json.loads((tmp_path / "run" / "data.json").read_text())["start"]
    assert start["vectors"] == read_vectors(str(tmp_path / "a.vec")).sha256
    part = ["--out", str(tmp_path / "part"), "--freeze", "items"]
    assert trained(*argv, *part, "--max-steps", "2") == 0
    assert train.main(["--resume", str(tmp_path / "part"), "--max-steps", "6"]) == 0
    assert trained(*argv, "--freeze", "items", "--out", str(tmp_path / "whole")) == 0
    assert_same_run(tmp_path / "part", tmp_path / "whole")
    ids = load_ids(tmp_path / "whole").item_ids.tolist()
    assert np.array_equal(load(tmp_path / "whole").item_embeddings[ids.index(4) - 1], TABLE[2])
    dead = tmp_path / "dead"
    dead.mkdir()
    for name in ("config.json", "data.json", "env.json", "item_ids.npz", "user_ids.npz"):
        (dead / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    assert train.main(["--resume", str(dead)]) == 0
    assert_same_run(dead, tmp_path / "whole")
    plain = checkpoint.read(tmp_path / "run" / "best.safetensors")[1]["run"]
    assert trained("--data", str(LOG), "--out", str(tmp_path / "plain")) == 0
    assert checkpoint.read(tmp_path / "plain" / "best.safetensors")[1]["run"] != plain
    for name in ("last.safetensors", "best.safetensors", "result.json"):
        (dead / name).unlink()  # with a result it would be a run that was trimmed
    (tmp_path / "a.vec").write_text("4 1 2 3 4 5 6\n")
    capsys.readouterr()
    assert train.main(["--resume", str(dead)]) == 2
    assert "a.vec has changed since" in capsys.readouterr().err


def test_new_items_alone_take_vectors_when_training_on(
    began: list[torch.Tensor], tmp_path: Path
) -> None:
    model = of(SASRec).fit(Dataset.from_file(LOG), **QUICK)
    before = model.items().detach().clone()
    more = Dataset.from_file(CASES / "own_more.csv")
    assert model.item_ids is not None
    (new,) = set(more.log.item_ids.tolist()) - set(model.item_ids.tolist())
    given = {new: TABLE[0], **dict(zip(IDS, TABLE, strict=True))}
    with pytest.raises(InputError, match="the model has weights already"):
        model.fit(Dataset.from_file(LOG), item_embeddings=given, **QUICK)
    with pytest.raises(InputError, match="are the ids written alike"):
        model.fit_partial(more, item_embeddings={"x": TABLE[0]}, **QUICK)
    assert model.n_classes == len(before)  # nothing was touched
    model.fit_partial(more, item_embeddings=given, **QUICK)
    assert torch.equal(began[-1][:-1], before)
    assert torch.equal(began[-1][-1], torch.from_numpy(TABLE[0]))


# What does not fit.


def written(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_files_that_are_wrong(tmp_path: Path) -> None:
    def refused(words: str, path: str, *more: str) -> None:
        with pytest.raises(InputError) as error:
            read_vectors(path, *more)
        assert words in str(error.value) and str(tmp_path) in str(error.value), error.value

    np.save(tmp_path / "a.npy", TABLE)
    write_npz(tmp_path / "a.npz")
    ids = written(tmp_path / "ids", "1\n2\n")
    refused("name their items with --item-ids", str(tmp_path / "a.npy"))
    refused("28 vectors, but 2 ids", str(tmp_path / "a.npy"), ids)
    refused("has ids of its own", str(tmp_path / "a.npz"), ids)
    refused("No such file", str(tmp_path / "gone.npz"))
    refused("No such file", str(tmp_path / "a.npy"), str(tmp_path / "gone"))
    damaged = (tmp_path / "a.npz").read_bytes()[:200]
    refused("not a readable file of vectors", written(tmp_path / "b.npz", damaged))
    refused("not a readable file of vectors", written(tmp_path / "b.safetensors", b"{" * 99))
    refused("not a readable file of vectors", written(tmp_path / "b.parquet", b"PAR1" * 9))
    refused("none of the formats that are read", written(tmp_path / "b.bin", b"\xff\xfe\x00"))
    refused("line 1: '', expected an id and numbers", written(tmp_path / "b.txt", ""))
    refused("line 2: 'b 1 2'", written(tmp_path / "b.txt", "a 1 2 3\nb 1 2\n"))
    refused("line 2: 'b 1 x'", written(tmp_path / "b.txt", "a 1 2\nb 1 x\n"))
    refused("says 3 rows, but there are 1", written(tmp_path / "b.txt", "3 2\na 1 2\n"))
    refused("item 'a' is there twice (rows 0 and 1)", written(tmp_path / "b.txt", "a 1\na 2\n"))
    refused(
        "the vector of item 'b' (row 1) is not finite, and 1 more",
        written(tmp_path / "b.txt", "a 1\nb nan\nc inf\n"),
    )
    np.savez(tmp_path / "c.npz", ids=[1.5, 2], vectors=np.ones((2, 3)))
    refused("id 0: 1.5 (float), expected an integer or text", str(tmp_path / "c.npz"))
    np.savez(tmp_path / "c.npz", ids=[1, 2], vectors=np.ones(2))
    refused("vectors of shape (2,), expected a row an item", str(tmp_path / "c.npz"))
    np.savez(tmp_path / "c.npz", one=[1, 2], two=np.ones(2))
    refused("it has the arrays one, two; expected one of ids", str(tmp_path / "c.npz"))
    np.savez(tmp_path / "c.npz", ids=np.array(["a"], dtype=object), vectors=np.ones((1, 2)))
    refused("not a readable file of vectors", str(tmp_path / "c.npz"))


def test_ids_with_blanks(tmp_path: Path) -> None:
    path = written(tmp_path / "a.vec", "2 2\nred lamp 1 2\nrug 3 4\n")
    assert read_vectors(path).ids == ["red lamp", "rug"]


def test_vectors_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*argv: str) -> str:
        capsys.readouterr()
        assert trained("--data", str(LOG), "--out", str(tmp_path / "out"), *argv) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    wide = written(tmp_path / "wide.txt", "4 1 2 3\n")
    said = refused("--item-embeddings", wide)
    assert "its vectors are 3 wide, the model's 6" in said and "--set hidden_size=3" in said
    other = written(tmp_path / "other.txt", "lamp 1 2 3 4 5 6\n")
    said = refused("--item-embeddings", other)
    assert "none of its 1 items ('lamp', ...)" in said and "written alike" in said
    assert "give both or neither" in refused("--item-ids", other)
    dataset, model = Dataset.from_file(LOG), of(SASRec)
    with pytest.raises(InputError, match="Popularity has no item table"):
        Popularity().fit(dataset, item_embeddings=dict(zip(IDS, TABLE, strict=True)))
    with pytest.raises(InputError, match="not all of one length"):
        model.fit(dataset, item_embeddings={1: [1, 2], 2: [1]})
    with pytest.raises(TypeError, match="a file, a dict of vectors"):
        model.fit(dataset, item_embeddings=7)
    with pytest.raises(InputError, match="written alike"):
        model.fit(dataset, item_embeddings={"x": TABLE[0]}, **QUICK)
    assert model.item_ids is None  # it is as it was, and can be trained
    model.fit(dataset, **QUICK)
