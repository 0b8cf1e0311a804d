"""`reproduce`: the right runs and only those, figures of the runs, killed and begun again."""

import csv
import json
import math
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mclrec_fast import Dataset, commands
from mclrec_fast.commands import reproduce as verb
from mclrec_fast.commands import train
from mclrec_fast.config_keys import Given
from mclrec_fast.data import DATASETS
from mclrec_fast.errors import InputError
from mclrec_fast.reproduction import plots, published, runner
from mclrec_fast.reproduction.figures import METRICS
from mclrec_fast.reproduction.looks import NOISES, length_groups, with_noise
from mclrec_fast.reproduction.plan import Planned, is_finished, parse_seeds, plan
from mclrec_fast.reproduction.tables import TABLES
from mclrec_fast.runs.identity import LATER
from mclrec_fast.training import fit
from tests.small_runs import result, write_log
from tests.test_evaluation import make_log

Capture = pytest.CaptureFixture[str]
SMALL = "--set hidden_size=8 --set inner_size=16 --set max_length=10 --threads 1".split()


def words(table: str, *more: str, epochs: int = 2) -> list[str]:
    """The command line of a small table."""
    return [table, "--data", "../log.txt", "--epochs", str(epochs), *SMALL, "--out", "out", *more]


def planned(table: str, *seeds: int, **given: Any) -> list[Planned]:
    """The runs of a table on a file."""
    values = {"data": "log.txt", **given}
    typed = {name: Given(value, f"--{name}") for name, value in values.items()}
    return plan(table, TABLES[table], seeds or [1], typed, train.resolve)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("data") / "log.txt")


@pytest.fixture(scope="module")
def out(log: Path) -> Path:
    """Where all tables are made of one folder of runs."""
    place = log.parent / "all"
    place.mkdir()
    return place


def figures(table: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The lines of a table's CSV."""
    rows = csv.DictReader(table.read_text().splitlines())
    return {tuple(row[n] for n in ("row", "x", "protocol", "metric")): row for row in rows}


@pytest.mark.parametrize("table", TABLES)
def test_every_table(
    out: Path, table: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(out)
    assert verb.main(words(table, "--seeds", "1,2", epochs=1)) == 0
    said = capsys.readouterr().out
    assert f"{table}: log, {TABLES[table].split}, history masked" in said
    lines = figures(out / "out" / f"{table}.csv")
    names = {row.name for row in TABLES[table].rows}
    assert {row for row, *_ in lines} == names
    for row in TABLES[table].rows:
        xs = {x for name, x, *_ in lines if name == row.name}
        if TABLES[table].look in ("whole", "validation"):
            assert row.x in xs
        else:
            assert len(xs) >= 3 and "" not in xs
    with (out / "out" / f"{table}-runs.csv").open() as file:
        for run in csv.DictReader(file):
            assert (out / "out/runs" / run["run"] / "result.json").exists()
            assert run["command"] in (out / "out" / f"{table}.md").read_text()
    svg = (out / "out" / f"{table}.svg").read_text()
    assert svg.startswith("<?xml") and (out / "out" / f"{table}.png").read_bytes()[:4] == b"\x89PNG"


def test_figures_are_those_of_the_runs(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    assert verb.main(words("main", "--seeds", "1,2", epochs=1)) == 0
    lines = figures(out / "out/main.csv")
    for protocol in ("unmasked", "masked"):
        for metric in METRICS:
            runs = [
                result(out / f"out/runs/mclrec-seed{seed}")["test"][protocol][metric]
                for seed in (1, 2)
            ]
            line = lines["MCLRec", "", protocol, metric]
            assert float(line["mean"]) == pytest.approx(statistics.fmean(runs), abs=1e-15)
            assert float(line["deviation"]) == pytest.approx(statistics.stdev(runs), abs=1e-15)
            assert line["runs"] == "2"
            mean, spread = statistics.fmean(runs), statistics.stdev(runs)
            assert f"{mean:.4f} ± {spread:.4f}" in (out / "out/main.md").read_text()
    floor = lines["popularity", "", "masked", "hr@10"]
    assert (floor["runs"], floor["deviation"]) == ("1", "")
    difference = float(lines["MCLRec", "", "masked", "ndcg@10 difference"]["mean"])
    of = {row: float(lines[row, "", "masked", "ndcg@10"]["mean"]) for row in ("MCLRec", "SASRec")}
    assert difference == pytest.approx(of["MCLRec"] - of["SASRec"], abs=1e-12)


def test_candidates_are_judged_by_validation(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    assert verb.main(words("candidates", "--seeds", "1", epochs=1)) == 0
    lines, text = figures(out / "out/candidates.csv"), (out / "out/candidates.md").read_text()
    for model in ("sasrec", "mclrec"):
        kept = result(out / f"out/runs/{model}-heads=1-seed1")
        row = {"sasrec": "SASRec", "mclrec": "MCLRec"}[model] + ", one head"
        line = lines[row, "", "masked", "ndcg@10"]
        assert float(line["mean"]) == pytest.approx(kept["valid"]["masked"]["ndcg@10"], abs=1e-15)
    assert "valid targets" in text and "test targets" not in text


def test_a_finished_run_is_never_repeated(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    argv = words("main", "--seeds", "1,2", epochs=1)
    assert verb.main(argv) == 0

    def never(*_: Any) -> None:
        raise AssertionError("a finished run was touched")

    monkeypatch.setattr(fit, "start", never)
    monkeypatch.setattr(fit, "resume", never)
    names = [f"out/main.{kind}" for kind in ("md", "csv", "svg", "png")] + ["out/main-runs.csv"]
    before = [(out / name).read_bytes() for name in names]
    assert verb.main(argv) == 0
    assert before == [(out / name).read_bytes() for name in names]
    assert verb.main(words("noise", "--seeds", "2,1", epochs=1)) == 0  # of the same runs


def test_noise_of_nothing_and_groups_are_the_whole(
    out: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    for table in ("main", "noise", "sparsity"):
        assert verb.main(words(table, "--seeds", "1,2", epochs=1)) == 0
    main, noise, sparsity = (
        figures(out / f"out/{name}.csv") for name in ("main", "noise", "sparsity")
    )
    for row in ("SASRec", "CL4SRec", "MCLRec"):
        for protocol in ("masked", "unmasked"):
            whole = main[row, "", protocol, "ndcg@10"]["mean"]
            assert noise[row, "0%", protocol, "ndcg@10"]["mean"] == whole
            groups = {
                x: float(line["mean"])
                for (name, x, p, metric), line in sparsity.items()
                if (name, p, metric) == (row, protocol, "ndcg@10")
            }
            sizes = {x: int(re.findall(r"\((\d+)\)", x)[0]) for x in groups}
            assert sum(sizes.values()) == 60
            mean = sum(groups[x] * sizes[x] for x in groups) / 60
            assert mean == pytest.approx(float(whole), abs=1e-12)
    assert noise["SASRec", "30%", "masked", "ndcg@10"] != noise["SASRec", "0%", "masked", "ndcg@10"]


def test_noise_by_hand() -> None:
    log = make_log([1, 2, 3, 4], [5, 1, 2], items=40)
    dataset_samples = Dataset.from_frame({"user": [0, 0, 0, 0], "item": [1, 2, 3, 4]}).split.test
    assert dataset_samples is not None
    samples = dataset_samples._replace(
        users=np.array([1, 0], np.int32), ends=np.array([2, 3], np.int32)
    )
    same, still = with_noise(log, samples, 0.0, 0)
    assert [same.sequence(u).tolist() for u in (0, 1)] == [[5, 1, 2], [1, 2, 3, 4]]
    assert still.ends.tolist() == [2, 3] and still.users.tolist() == [0, 1]
    all_of_it, ends = with_noise(log, samples, 1.0, 0)
    first, second = (all_of_it.sequence(u).tolist() for u in (0, 1))
    assert first[::2] == [5, 1, 2] and second[::2] == [1, 2, 3, 4]
    assert ends.ends.tolist() == [4, 6]
    assert not {5, 1, 2} & set(first[1::2]) and not {1, 2, 3, 4} & set(second[1::2])


def test_noise_grows_as_it_says() -> None:
    rng = np.random.default_rng(0)
    log = make_log(*(rng.integers(1, 31, 20).tolist() for _ in range(500)), items=30)
    kept = Dataset.from_frame({"user": [0] * 4, "item": [1, 2, 3, 4]}).split.test
    assert kept is not None
    samples = kept._replace(users=np.arange(500, dtype=np.int32), ends=np.full(500, 15, np.int32))
    before: list[int] = []
    for share in NOISES:
        noisy, found = with_noise(log, samples, share, 0)
        inserted = found.ends.astype(int) - 15
        assert abs(inserted.sum() / 7500 - share) < 4 * math.sqrt(0.25 / 7500)
        assert all(a <= b for a, b in zip(before, inserted, strict=bool(before)))
        before = inserted.tolist()
        assert np.array_equal(noisy.items[noisy.offsets[1:] - 1], log.items.reshape(500, 20)[:, 15])
    assert np.array_equal(with_noise(log, samples, 0.3, 0)[0].items, noisy.items)


def test_groups_by_length() -> None:
    lengths = np.array([4, 4, 4, 4, 5, 5, 6, 7, 9, 40], np.int32)
    found = {label: lengths[mask].tolist() for label, mask in length_groups(lengths)}
    assert found == {
        "4 (4)": [4, 4, 4, 4], "5 (2)": [5, 5], "6-7 (2)": [6, 7], "9-40 (2)": [9, 40],
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_the_commands_make_those_runs(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a table prints for a run is read by `train` as the very same configuration."""
    given = {"epochs": 3, "dedupe": "first", "user_ids": False, "layers": 1, "max_steps": None}
    for run in planned(table, 1, 7, **given):
        program, name, *argv = shlex.split(run.command(Path("a b")))
        assert (program, name) == ("mclrec-fast", "train")
        arguments = train.parser().parse(argv)
        assert arguments.out == Path("a b/runs") / run.name
        assert train.resolve(train.cli.collect(arguments)).config == run.resolved.config


def test_rows_of_one_configuration_share_a_run() -> None:
    names = [run.name for run in planned("ablation", 3)]
    assert names == [
        "mclrec-seed3",
        "mclrec-seed3",  # lambda is 0 by default
        "mclrec-beta=0.0-seed3",
        "mclrec-gamma=0.0-seed3",
        "mclrec-shared_augmenter=true-seed3",
        "mclrec-schedule=joint-seed3",
        "mclrec-schedule=paper-seed3",
    ]
    typed = {"dataset": Given("sports", "--dataset")}
    sports = plan("ablation", TABLES["ablation"], [3], typed, train.resolve)
    assert sports[1].name == "mclrec-lambda=0.0-seed3"
    assert sports[0].resolved.config.model.beta == 0.4  # type: ignore[attr-defined]
    for table, count in (("main", 4), ("batch-size", 8), ("noise", 3), ("sparsity", 3)):
        assert len({run.name for run in planned(table)}) == count
    assert len({run.name for run in planned("weights", 1, 2)}) == 2 * 11
    assert [run.seed for run in planned("main", 4, 5)] == [4, 4, 5, 4, 5, 4, 5]


def test_published_figures_stand_beside_the_paper_data_only(log: Path) -> None:
    card = Dataset.from_file(log).card
    assert published.figures("main", card) == {}
    beauty = replace(card, sha256=DATASETS["beauty"].sha256)
    assert published.figures("main", beauty)["MCLRec"]["ndcg@20"] == 0.0539
    assert set(published.figures("ablation", beauty)) <= {r.name for r in TABLES["ablation"].rows}
    assert published.figures("noise", beauty) == {}
    assert published.figures("main", replace(beauty, filters={"min_user": 9})) == {}
    assert published.figures("main", replace(beauty, holdout="temporal")) == {}


def test_published_figures_in_the_table(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    place = tmp_path / "a"
    place.mkdir()
    (tmp_path / "log.txt").write_bytes(log.read_bytes())
    entry = replace(DATASETS["sports"], sha256=Dataset.from_file(log).card.sha256)
    monkeypatch.setitem(DATASETS, "sports", entry)
    monkeypatch.chdir(place)
    assert verb.main(words("main", "--seeds", "1", epochs=1)) == 0
    unmasked, masked = (place / "out/main.md").read_text().split("## History masked")
    assert "| DuoRec, published | 0.0312 | 0.0466 | 0.0696 | 0.0192 | 0.0244 | 0.0302 |" in unmasked
    assert "Qin et al. 2023" in unmasked and "| DuoRec" not in masked
    assert "MCLRec, published" in capsys.readouterr().out
    line = figures(place / "out/main.csv")["MCLRec", "", "unmasked", "hr@20"]
    assert (line["mean"], line["source"]) == ("0.0734", "Qin et al. 2023")
    assert "published" in (place / "out/main.svg").read_text()


def test_without_matplotlib_the_tables_are_written_all_the_same(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    place = log.parent / "plain"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert verb.main(words("sparsity", "--seeds", "1", epochs=1)) == 0
    assert 'pip install "mclrec_fast[plots]"' in capsys.readouterr().out
    kinds = {path.suffix for path in (place / "out").iterdir() if path.is_file()}
    assert kinds == {".md", ".csv"}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "arguments are required: TABLE"),
        (["mian"], "did you mean 'main'"),
        (["main", "--seeds", "1,2,1"], "1 is given twice"),
        (["main", "--seeds", "1,01"], "1 is given twice"),
        (["main", "--seeds", "1,"], "expected whole numbers"),
        (["main", "--seeds", "-1"], "expected"),
        (["main", "--seed", "1"], "did you mean '--seeds'"),
        (["main", "--set", "seed=1"], "one run for each of --seeds"),
        (["main", "--model", "sasrec"], "unknown option '--model'"),
        (["main", "--set", "model=sasrec"], "decides on model itself"),
        (["batch-size", "--set", "batch_size=3"], "decides on batch_size itself"),
        (["sparsity", "--set", "bta=3"], "did you mean 'beta'"),
        (["main", "--set", "lambda=0"], "lambda must be above 0"),
        (["main", "--epochs", "0"], "at least 1"),
        (["main", "--dataset", "beuty"], "did you mean 'beauty'"),
        (["main", "--data", "nowhere.txt"], "nowhere.txt"),
        (["main", "--data", "../log.txt", "--holdout", "none"], "--epochs N"),
        (["main", "--data", "../log.txt", "--holdout", "none", "--epochs", "1"], "needs a test"),
        (["main", "--dataset", "toys"], "could not be fetched"),
    ],
)
def test_bad_input(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    argv: list[str], said: str,
) -> None:  # fmt: skip
    place = tmp_path / "empty"
    place.mkdir()
    (tmp_path / "log.txt").write_bytes(log.read_bytes())
    monkeypatch.chdir(place)
    monkeypatch.setenv("MCLREC_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MCLREC_FAST_AUTHORS", "http://127.0.0.1:9/nothing")
    assert verb.main(argv) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert list(place.iterdir()) == []


def tree(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--epochs=3",), "epochs = 1, not 3"),
        (("--set", "layers=1"), "layers = 2, not 1"),
        (("--min-user", "6"), "min_user = 0, not 6"),
        (("--set", "cutoffs=5,10"), "cutoffs = 5,10,20,50, not 5,10"),
        (("--data=../other.txt",), "was made with other data"),
    ],
)
def test_results_of_other_settings(
    log: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    change: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    """Refused before a seed that is missing is run."""
    monkeypatch.chdir(out)
    write_log(log.parent / "other.txt", seed=5)
    assert verb.main(words("sparsity", "--seeds", "1", epochs=1)) == 0
    before = tree(out)
    argv = words("sparsity", "--seeds", "9,1", *change, epochs=1)
    given_twice = {"--epochs=3": "--epochs", "--data=../other.txt": "--data"}.get(change[0])
    if given_twice:
        at = argv.index(given_twice)
        del argv[at : at + 2]
    assert verb.main(argv) == 2
    error = capsys.readouterr().err
    assert said in error and "give another --out" in error
    assert tree(out) == before


@pytest.fixture
def one_seed(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small table, made here in `out`; the words that make it again."""
    place = tmp_path / "a"
    place.mkdir()
    (tmp_path / "log.txt").write_bytes(log.read_bytes())
    monkeypatch.chdir(place)
    argv = words("sparsity", "--seeds", "1", epochs=1)
    assert verb.main(argv) == 0
    return argv


def test_runs_that_are_older_than_a_key_are_known(
    one_seed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that a later version knows counts as its default, for finished and unfinished runs."""
    run = Path("out/runs/sasrec-seed1")
    tables = {path: path.read_bytes() for path in Path("out").glob("sparsity.*")}
    config = json.loads((run / "config.json").read_text())
    for later in LATER:
        for part in config.values():
            part.pop(later, None)
    (run / "config.json").write_text(json.dumps(config))
    with monkeypatch.context() as patch:
        patch.setattr(fit, "start", None)
        patch.setattr(fit, "resume", None)
        assert verb.main(one_seed) == 0  # all are finished
    (run / "result.json").unlink()
    assert verb.main(one_seed) == 0
    assert (run / "result.json").exists()
    assert {path: path.read_bytes() for path in Path("out").glob("sparsity.*")} == tables


def test_a_damaged_results_folder(one_seed: list[str], capsys: Capture) -> None:
    run = Path("out/runs/sasrec-seed1")
    kept = {name: (run / name).read_bytes() for name in ("config.json", "data.json")}
    for name, content, said in (
        ("config.json", b"[1]", "not a JSON object"),
        ("config.json", b"{", "not valid JSON"),
        ("data.json", b"[]", "not a JSON object"),
        ("test_ranks.npz", None, "test_ranks.npz is not"),
    ):
        (run / name).unlink()
        if content is not None:
            (run / name).write_bytes(content)
        capsys.readouterr()
        assert verb.main(one_seed) == 2
        assert said in capsys.readouterr().err
        for of, content in kept.items():
            (run / of).write_bytes(content)


def start(place: Path, argv: Iterable[str]) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "mclrec_fast.reproduce", *argv],
        cwd=place,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def epochs_done(place: Path) -> int:
    return sum(path.read_text().count("\n") for path in place.glob("out/runs/*/metrics.jsonl"))


def test_killed_at_random_moments_and_started_again(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are those of a command that was never killed, to the byte."""
    straight, killed = log.parent / "straight", log.parent / "killed"
    straight.mkdir()
    killed.mkdir()
    argv = words("ablation", "--seeds", "1", epochs=4)
    monkeypatch.chdir(straight)
    assert verb.main(argv) == 0
    total = epochs_done(straight)
    assert total == 6 * 4
    seed = time.time_ns() % 100_000
    moments = sorted(random.Random(seed).sample(range(1, total - 4), 2))
    for moment in moments:
        process = start(killed, argv)
        try:
            deadline = time.monotonic() + 120
            while epochs_done(killed) < moment and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL, f"moments {moments} of seed {seed}"
        assert not (killed / "out/ablation.md").exists()
    last = start(killed, argv)
    _, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    for kind in ("md", "csv", "svg", "png"):
        ours, theirs = (place / f"out/ablation.{kind}" for place in (killed, straight))
        assert ours.read_bytes() == theirs.read_bytes(), f"{kind}: {moments} of seed {seed}"


def test_interrupted_it_says_how_to_go_on(log: Path) -> None:
    place = log.parent / "interrupted"
    place.mkdir()
    process = start(place, words("ablation", "--seeds", "1", epochs=50))
    deadline = time.monotonic() + 120
    while epochs_done(place) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted in run 1 of 6: mclrec-seed1; the same command goes on" in error
    assert "Traceback" not in error


def test_the_time_left(tmp_path: Path) -> None:
    each = planned("main", 1, 2)
    for run, seconds in (
        ("popularity-seed1", None),
        ("sasrec-seed1", 300.0),
        ("mclrec-seed1", 900),
    ):
        place = tmp_path / "runs" / run
        place.mkdir(parents=True)
        found = {"seconds_per_epoch": seconds, "epochs": 2 if seconds else 0}
        (place / "result.json").write_text(json.dumps(found))
    done = ("popularity-seed1", "sasrec-seed1", "mclrec-seed1")
    missing = [run for run in each if run.name not in done]
    text = runner._time_left(each, missing, tmp_path)
    # SASRec 600 s, MCLRec 1 800 s, and two of CL4SRec at the mean of those, 1 200 s
    assert text.startswith("about 80 min left, done at ")
    assert runner.duration(42) == "42 s" and runner.duration(7_260) == "2 h 1 min"
    only_popularity = [run for run in each if run.name != "popularity-seed1"]
    assert "once a run is finished" in runner._time_left(each, only_popularity, tmp_path)


def test_seeds() -> None:
    assert parse_seeds(" 3, 1") == [3, 1]


def test_pictures_are_of_known_kinds() -> None:
    assert {table.picture for table in TABLES.values()} == set(plots._PICTURES)


def test_trimmed_runs_give_the_same_tables(
    out: Path, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """To the byte, and nothing is trained; only what ranks anew needs weights, and says so."""
    monkeypatch.chdir(out)
    names = ("main", "sparsity", "candidates")
    for name in names:
        assert verb.main(words(name, "--seeds", "1,2", epochs=1)) == 0
    runs = sorted(map(str, (out / "out/runs").iterdir()))
    place = log.parent / "published"
    (place / "out").mkdir(parents=True)
    assert commands.main(["trim", *runs, "--out", str(place / "out/runs")]) == 0

    def never(*_: Any) -> None:
        raise AssertionError("a finished run was touched")

    monkeypatch.setattr(fit, "start", never)
    monkeypatch.setattr(fit, "resume", never)
    monkeypatch.chdir(place)
    for name in names:
        assert verb.main(words(name, "--seeds", "1,2", epochs=1)) == 0
        for kind in (f"{name}.md", f"{name}.csv", f"{name}-runs.csv", f"{name}.svg", f"{name}.png"):
            assert (place / "out" / kind).read_bytes() == (out / "out" / kind).read_bytes(), kind
    capsys.readouterr()
    assert verb.main(words("noise", "--seeds", "1,2", epochs=1)) == 2
    assert "was trimmed, and has figures and ranks, but no weights" in capsys.readouterr().err


def test_a_file_and_the_data_set_of_its_checksum_are_one(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    argv = words("sparsity", "--seeds", "1", epochs=1)
    assert verb.main(argv) == 0
    arguments = verb.parser().parse(argv)
    given = verb.cli.collect(arguments)
    (run, *_) = plan("sparsity", TABLES["sparsity"], [1], given, train.resolve)
    config = run.resolved.config
    named = replace(config, data=replace(config.data, data=None, dataset="beauty"))
    by_name = replace(run, resolved=run.resolved._replace(config=named))
    dataset = Dataset.from_file("../log.txt")
    assert is_finished(by_name, Path("out"), dataset)
    other = replace(by_name.resolved.config, model=replace(config.model, heads=1))
    with pytest.raises(InputError, match="was made with heads = 2, not 1"):
        by_other = replace(run, resolved=run.resolved._replace(config=other))
        is_finished(by_other, Path("out"), dataset)
