"""Runs whose files were damaged, exchanged or edited are refused; nothing else is served."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mclrec_fast import load
from mclrec_fast.commands import evaluate, train
from mclrec_fast.errors import InputError
from tests.small_runs import run

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, code: int) -> str:
    text = capsys.readouterr().err
    assert code == 2, text
    assert text.startswith("error: ") and "Traceback" not in text
    return text


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_noticed(
    copied: Path, capsys: Capture, name: str, place: float, bit: int
) -> None:
    content = bytearray((copied / name).read_bytes())
    content[int(len(content) * place)] ^= 1 << bit
    (copied / name).write_bytes(content)
    if name == "best.safetensors":
        code = evaluate.main([str(copied)])
    else:
        code = train.main(["--resume", str(copied), "--epochs", "2"])
    assert name in refused(capsys, code)


def test_zeros_in_the_middle(copied: Path, capsys: Capture) -> None:
    content = bytearray((copied / "best.safetensors").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    (copied / "best.safetensors").write_bytes(content)
    assert "damaged" in refused(capsys, evaluate.main([str(copied)]))


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_files_of_another_run(
    copied: Path, log: Path, tmp_path: Path, capsys: Capture, name: str
) -> None:
    """Another seed: the same names, the same shapes."""
    other = tmp_path / "other"
    assert run(log, other, "--epochs", "1", "--model", "sasrec", "--seed", "2") == 0
    shutil.copy(other / name, copied / name)
    if name == "best.safetensors":
        assert "weights of another run" in refused(capsys, evaluate.main([str(copied)]))
        with pytest.raises(InputError, match="weights of another run"):
            load(copied)
    else:
        code = train.main(["--resume", str(copied), "--epochs", "2"])
        assert "belongs to another run" in refused(capsys, code)


@pytest.mark.parametrize(("key", "value"), [("seed", 7), ("batch_size", 32)])
def test_an_edited_configuration(copied: Path, capsys: Capture, key: str, value: int) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["train"][key] = value
    (copied / "config.json").write_text(json.dumps(config))
    assert "another run" in refused(capsys, train.main(["--resume", str(copied), "--epochs", "2"]))


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[1]", b"3", b'"text"', b"{", b"[" * 100_000, b"\xff\xfe", b"9" * 5000,
     b'{"model": 3}', b'{"model": {"model": []}}', b'{"train": {"seed": 1e400}}',
     b'{"model": {"hidden_size": 1000000000000}}'],
)  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_json_that_is_no_run(copied: Path, capsys: Capture, name: str, content: bytes) -> None:
    (copied / name).write_bytes(content)
    assert str(copied) in refused(capsys, evaluate.main([str(copied)]))
    refused(capsys, train.main(["--resume", str(copied), "--epochs", "2"]))


def test_what_is_no_file(copied: Path, capsys: Capture) -> None:
    """A pipe nobody writes into would be waited for; a folder cannot be read."""
    (copied / "best.safetensors").unlink()
    os.mkfifo(copied / "best.safetensors")
    assert "not a regular file" in refused(capsys, evaluate.main([str(copied)]))
    (copied / ".x.tmp").mkdir()
    (copied / ".y.tmp").write_text("left over")
    assert train.main(["--resume", str(copied), "--epochs", "1"]) == 0  # the state has them too
    assert (copied / ".x.tmp").is_dir() and not (copied / ".y.tmp").exists()


def test_a_planted_link_is_not_followed(finished: Path, tmp_path: Path) -> None:
    """Whatever links lie in a run's directory, a victim outside is never written to."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    copied = tmp_path / "copy"
    shutil.copytree(finished, copied)
    for name in ("metrics.jsonl", "result.json", "best.safetensors"):
        (copied / name).replace(copied / f"old-{name}")
        (copied / name).symlink_to(victim)
    (copied / "best.safetensors").unlink()
    (copied / "old-best.safetensors").replace(copied / "best.safetensors")
    assert train.main(["--resume", str(copied), "--epochs", "2"]) == 0
    assert victim.read_text() == "mine"
    assert not (copied / "result.json").is_symlink()


def test_the_lock_outlives_a_rotated_log(finished: Path, copied: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mclrec_fast.runs.directory import RunDirectory\n"
        "from mclrec_fast.errors import InputError\n"
        "path = Path(sys.argv[1])\n"
        "with RunDirectory.open(path):\n"
        "    (path / 'train.log').rename(path / 'train.log.1')\n"
        "    try:\n"
        "        RunDirectory.open(path)\n"
        "    except InputError as error:\n"
        "        assert 'another process' in str(error)\n"
        "    else:\n"
        "        raise SystemExit(1)\n"
        "RunDirectory.open(path).close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(copied)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
