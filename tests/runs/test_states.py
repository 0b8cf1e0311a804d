"""States and weights with the right digest and odd content: one message, nothing served."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mclrec_fast.commands import compare, diagnose, evaluate, recommend, train
from mclrec_fast.runs import checkpoint

Capture = pytest.CaptureFixture[str]
ODD: tuple[Any, ...] = (None, [], {}, -1, 1.5, "x", 10**400)


def resumed(path: Path) -> int:
    return train.main(["--resume", str(path), "--epochs", "2"])


def refused(capsys: Capture, code: int) -> str:
    text = capsys.readouterr().err
    assert code in (1, 2) and text.startswith("error: ") and "Traceback" not in text
    return text


def of_progress() -> Iterator[tuple[str, Any]]:
    for name in checkpoint.Progress.__dataclass_fields__:
        for value in ODD:
            fits = {
                "seconds": value in (-1, 1.5, 2**63, 10**30) and value is not True,
                "losses": value == {},
                "history": value == [],
                "best_value": value in (None, -1, 1.5, 2**63, 10**30) and value is not True,
            }
            if not fits.get(name, False):
                yield name, value


@pytest.mark.parametrize(("name", "value"), list(of_progress()), ids=lambda v: str(v)[:12])
def test_odd_progress(copied: Path, capsys: Capture, name: str, value: Any) -> None:
    tensors, header = checkpoint.read(copied / "last.safetensors")
    header["progress"][name] = value
    checkpoint.write(copied / "last.safetensors", tensors, header)
    capsys.readouterr()
    assert "last.safetensors: damaged: not the state of a run" in refused(capsys, resumed(copied))


@pytest.mark.parametrize("part", ["model", "optimizers", "best", "progress", "run"])
@pytest.mark.parametrize("value", [*ODD, "gone", {"$tensor": "nowhere"}, {"$items": [[1, 2]]}])
def test_odd_parts(copied: Path, capsys: Capture, part: str, value: Any) -> None:
    if part == "best" and value is None:
        return  # as it is
    tensors, header = checkpoint.read(copied / "last.safetensors")
    header[part] = value
    if value == "gone":
        del header[part]
    checkpoint.write(copied / "last.safetensors", tensors, header)
    capsys.readouterr()
    refused(capsys, resumed(copied))


@pytest.mark.parametrize("value", ["gone", "x", 3, None])
@pytest.mark.parametrize("place", [0, 5, 20])
def test_odd_optimizers(copied: Path, capsys: Capture, place: int, value: Any) -> None:
    tensors, header = checkpoint.read(copied / "last.safetensors")
    ((_, adam),) = header["optimizers"]["$items"]
    means = adam["$items"][1][1]["$list"]
    if value == "gone":
        del means[place]
    else:
        means[place] = value
    checkpoint.write(copied / "last.safetensors", tensors, header)
    capsys.readouterr()
    assert "optimizers are not those of this configuration" in refused(capsys, resumed(copied))


@pytest.mark.parametrize("header", [None, [], 3, "x", {}, [[]], {"epoch": "x", "run": 1}])
@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_odd_headers(copied: Path, capsys: Capture, name: str, header: Any) -> None:
    tensors, _ = checkpoint.read(copied / name)
    checkpoint.write(copied / name, tensors, header)
    capsys.readouterr()
    verbs = (evaluate.main, recommend.main, diagnose.main) if name[0] == "b" else ()
    for verb in verbs:
        assert name in refused(capsys, verb([str(copied)]))
    if not verbs:
        assert name in refused(capsys, resumed(copied))


@pytest.mark.parametrize("value", [*ODD, "gone"])
@pytest.mark.parametrize("key", ["epoch", "step", "run"])
def test_odd_weights(copied: Path, capsys: Capture, key: str, value: Any) -> None:
    tensors, header = checkpoint.read(copied / "best.safetensors")
    if type(value) is int and key != "run":
        value = str(value)
    header[key] = value
    if value == "gone":
        del header[key]
    checkpoint.write(copied / "best.safetensors", tensors, header)
    capsys.readouterr()
    assert "best.safetensors" in refused(capsys, evaluate.main([str(copied)]))


def test_other_tensors(copied: Path, capsys: Capture) -> None:
    tensors, header = checkpoint.read(copied / "best.safetensors")
    name = next(iter(tensors))
    for odd in (tensors[name][None], tensors[name].reshape(-1)[:1], torch.tensor(1.0)):
        checkpoint.write(copied / "best.safetensors", tensors | {name: odd}, header)
        capsys.readouterr()
        assert name in refused(capsys, recommend.main([str(copied)]))


@pytest.mark.parametrize("name", [".last.safetensors.0123456789ab.tmp", "best.safetensors",
                                  "config.json", "data.json", "run.lock", "train.log",
                                  "result.json", "metrics.jsonl"])  # fmt: skip
def test_folders_where_files_should_be(
    finished: Path, copied: Path, capsys: Capture, name: str
) -> None:
    (copied / name).unlink(missing_ok=True)
    (copied / name).mkdir()
    for verb in (evaluate.main, recommend.main, resumed):
        argv = str(copied) if verb is resumed else [str(copied)]
        capsys.readouterr()
        code = verb(argv)  # type: ignore[arg-type]
        assert "Traceback" not in capsys.readouterr().err and code in (0, 1, 2)
    assert compare.main([str(copied), str(finished)]) in (0, 2)
