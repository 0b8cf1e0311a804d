"""`mclrec-fast diagnose`: measures against spaces that are known, runs, resuming, bad input."""

import json
import math
from pathlib import Path

import pytest
import torch

from mclrec_fast import load
from mclrec_fast.commands import diagnose
from mclrec_fast.diagnosis import geometry, look
from mclrec_fast.ops.philox import shuffle_order
from mclrec_fast.pictures import require_matplotlib
from tests import small_runs

Capture = pytest.CaptureFixture[str]


def test_a_space_that_is_spread_evenly() -> None:
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = geometry.describe(x)
    assert found["effective_rank"] == pytest.approx(8, abs=0.02)
    assert found["cosine"] == pytest.approx(0, abs=0.01)
    # Two random directions in D dimensions: distance^2 = 2 - 2 cosine, and E exp(4 cosine) is
    # known: the modified Bessel function, here by its series.
    series = sum(
        4 ** (2 * k) * math.gamma(4) / (2 ** (2 * k) * math.factorial(k) * math.gamma(4 + k))
        for k in range(40)
    )
    assert found["uniformity"] == pytest.approx(math.log(series) - 4, abs=0.01)
    assert found["singular_values"][0] == pytest.approx(1, abs=0.06)


def test_a_space_that_has_collapsed() -> None:
    direction = torch.tensor([1.0, 2.0, 2.0])
    line = torch.linspace(1, 2, 50)[:, None] * direction
    found = geometry.describe(line)
    assert found["uniformity"] == pytest.approx(0, abs=1e-6)
    assert found["cosine"] == pytest.approx(1)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-5)
    point = geometry.describe(direction.expand(50, 3))
    assert point["effective_rank"] == 0 or point["singular_values"][0] < 1e-7


def test_the_effective_rank_of_two_axes_of_equal_variance_is_two() -> None:
    assert geometry.effective_rank(torch.tensor([3.0, 3.0, 0.0])) == pytest.approx(2)
    assert geometry.effective_rank(torch.zeros(3)) == 0


def test_uniformity_and_cosine_by_hand() -> None:
    x = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    pairs = [math.exp(-4), math.exp(-8), math.exp(-4)]  # right angle, opposite, right angle
    assert geometry.uniformity(x) == pytest.approx(math.log(sum(pairs) / 3))
    assert geometry.mean_cosine(x) == pytest.approx(-1 / 3)


def test_alignment() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert geometry.alignment(x, 3 * x) == pytest.approx(0)
    assert geometry.alignment(x, -x) == pytest.approx(4)
    assert geometry.alignment(x, x.flip(0)) == pytest.approx(2)


def test_the_plane_holds_what_lies_in_one() -> None:
    angle = torch.linspace(0, 6, 20, dtype=torch.float64)
    circle = torch.stack((angle.cos(), angle.sin(), 0 * angle), 1)
    spots, share = geometry.plane({"a": circle, "b": 2 * circle})
    assert share == pytest.approx(1)
    assert torch.allclose(spots["a"], spots["b"])
    assert torch.allclose(torch.cdist(spots["a"], spots["a"]), torch.cdist(circle, circle))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three models, each looked at in every epoch."""
    place = tmp_path_factory.mktemp("diagnosis")
    log = small_runs.write_log(place / "log.txt")
    for model in ("mclrec", "cl4srec", "sasrec"):
        more = ("--model", model, "--epochs", "3")
        assert small_runs.run(log, place / model, *more, diagnose_every=1) == 0
    assert small_runs.run(log, place / "popularity", "--model", "popularity") == 0
    return place


def test_the_command(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    names = ("mclrec", "cl4srec", "sasrec")
    words = [str(runs / name) for name in names]
    assert diagnose.main([*words, "--json", "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert json.loads((tmp_path / "new" / "diagnosis.json").read_text()) == figures
    views = {"mclrec": {"h1", "h2", "z1", "z2"}, "cl4srec": {"h1", "h2"}, "sasrec": set[str]()}
    for name in names:
        assert set(figures[name]["sets"]) == {"h", "items", *views[name]}
        assert f"{name} h " in said.err
    assert set(figures["mclrec"]["alignment"]) == {f"{a} {b}" for a, b in look.PAIRS}
    pictures = {path.name for path in (tmp_path / "new").iterdir()}
    drawn = ("spectra", "epochs", "views-mclrec", "views-cl4srec")
    assert pictures == {"diagnosis.json", *(f"{n}.{k}" for n in drawn for k in ("svg", "png"))}


def test_the_figures_are_those_of_the_representations(runs: Path, capsys: Capture) -> None:
    assert diagnose.main([str(runs / "sasrec"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sasrec"]
    model = load(runs / "sasrec")
    lines = [line.split() for line in (runs / "log.txt").read_text().splitlines()]
    histories = [[int(item) for item in line[1:-1]] for line in lines]
    order = shuffle_order(len(histories), seed=1, epoch=0).tolist()
    h = torch.from_numpy(model.encode([histories[i] for i in order]))
    assert found["samples"] == len(histories)
    assert found["sets"]["h"]["uniformity"] == pytest.approx(geometry.uniformity(h), rel=1e-4)
    spectrum = found["sets"]["h"]["singular_values"]
    assert spectrum == pytest.approx(geometry.singular_values(h).tolist(), rel=1e-4, abs=1e-6)


def test_epochs_are_in_the_metrics_and_do_not_move_the_weights(runs: Path, tmp_path: Path) -> None:
    records = small_runs.metrics(runs / "mclrec")
    assert [set(record["diagnosis"]["sets"]) for record in records] == [
        {"h", "items", "h1", "h2", "z1", "z2"}
    ] * 3
    log = runs / "log.txt"
    assert small_runs.run(log, tmp_path / "without", "--epochs", "3") == 0
    without = small_runs.metrics(tmp_path / "without")
    for record in records:
        del record["diagnosis"]
    assert without == records
    words = ("--epochs", "1")
    assert small_runs.run(log, tmp_path / "two", *words, diagnose_every=2) == 0
    again = ["--resume", str(tmp_path / "two"), "--epochs", "3"]
    assert small_runs.train.main(again) == 0
    assert ["diagnosis" in record for record in small_runs.metrics(tmp_path / "two")] == [
        False,
        True,
        False,
    ]
    (second,) = [r["diagnosis"] for r in small_runs.metrics(tmp_path / "two") if "diagnosis" in r]
    assert second == small_runs.metrics(runs / "mclrec")[1]["diagnosis"]


def test_both_backends_see_the_same(runs: Path, capsys: Capture) -> None:
    seen = []
    for backend in ("torch", "auto"):
        assert diagnose.main([str(runs / "mclrec"), "--json", "--backend", backend]) == 0
        seen.append(json.loads(capsys.readouterr().out)["mclrec"])
    torch_, other = seen
    assert torch_["alignment"] == pytest.approx(other["alignment"], rel=1e-4)
    for name, of in torch_["sets"].items():
        assert of["uniformity"] == pytest.approx(other["sets"][name]["uniformity"], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["popularity"], "a popularity run has no representations"),
        (["nothing"], "no such directory"),
        (["sasrec", "sasrec"], "is given twice"),
        (["sasrec", "--split", "tset"], "--split 'tset': expected one of train, valid, test"),
        (["sasrec", "--samples", "1"], "--samples '1': expected a whole number from 2"),
        (["sasrec", "--out", "log.txt"], "--out"),
    ],
)
def test_bad_input(
    runs: Path, words: list[str], said: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    assert diagnose.main(words) == 2
    assert said in capsys.readouterr().err
    assert sorted(runs.rglob("*")) == before


def test_pictures_need_matplotlib_and_figures_do_not(
    runs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(Exception, match="mclrec_fast\\[plots\\]"):
        require_matplotlib()
    assert diagnose.main([str(runs / "sasrec")]) == 0
    assert diagnose.main([str(runs / "sasrec"), "--out", str(tmp_path / "new")]) == 2
    assert "mclrec_fast[plots]" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
