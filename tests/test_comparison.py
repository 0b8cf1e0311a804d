"""Comparing runs: the statistics against figures by hand, and runs that cannot be compared."""

import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mclrec_fast
from mclrec_fast.commands import compare as verb
from mclrec_fast.comparison import (
    bootstrap_interval,
    compare,
    holm,
    paired_tests,
    parse_metrics,
    randomisation_p,
)
from mclrec_fast.errors import InputError
from mclrec_fast.metrics import gains
from tests.small_runs import run, write_log

Capture = pytest.CaptureFixture[str]


def test_randomisation_against_all_flips() -> None:
    difference = np.array([0.5, 0.0, -0.2, 0.9, 0.4, 0.0, 0.3, 0.1, -0.1])
    observed = abs(difference.sum())
    flips = [
        abs(np.dot(signs, difference)) >= observed - 1e-12
        for signs in itertools.product((-1, 1), repeat=len(difference))
    ]
    exact, resamples = np.mean(flips), 40_000
    found = randomisation_p(difference, resamples, seed=3)
    assert abs(found - exact) < 4 * math.sqrt(exact * (1 - exact) / resamples)


def test_the_bootstrap_against_all_samples() -> None:
    """Of four users there are 4 ** 4 samples: their distribution is known whole."""
    difference = np.array([0.0, 1.0, -0.25, 0.5])
    means = [np.mean(drawn) for drawn in itertools.product(difference, repeat=4)]
    low, high = bootstrap_interval(difference, 40_000, seed=1)
    for found, share in ((low, 0.025), (high, 0.975)):
        exact = np.quantile(means, [share - 0.004, share + 0.004], method="inverted_cdf")
        assert exact[0] <= found <= exact[1]


def test_one_user_of_many_and_a_p_that_is_never_zero() -> None:
    """A third of the resamples lack the one who differs: they must count as 0."""
    one = np.zeros(50)
    one[7] = 1.0
    low, high = bootstrap_interval(one, 2_000, 0)
    assert low == 0.0 and high == pytest.approx(3 / 50)
    assert randomisation_p(np.ones(100), 99, 0) == 1 / 100


def test_holm_by_hand() -> None:
    # sorted: .01 x 4, .02 x 3, .03 x 2 = .06 like the one before, .4
    assert holm([0.03, 0.01, 0.4, 0.02]) == pytest.approx([0.06, 0.04, 0.4, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_no_difference_is_no_difference() -> None:
    for size in (1, 5):
        assert randomisation_p(np.zeros(size), 100, 0) == 1.0
        assert bootstrap_interval(np.zeros(size), 100, 0) == (0.0, 0.0)
    assert bootstrap_interval(np.full(9, 0.25), 100, 0) == (0.25, 0.25)


def some_ranks(rng: np.random.Generator, difficulty: np.ndarray, gift: float = 0.0) -> np.ndarray:
    """Ranks of one more model of the same users: their difficulty and luck, less a gift."""
    luck = rng.normal(0, 1.5, len(difficulty))
    return np.maximum(0, np.exp(difficulty + luck - gift)).astype(np.int64)


def rejected(metric: str, gift: float, pairs: int) -> int:
    """Of so many pairs of models, how many the test calls different at .05."""
    rng = np.random.default_rng(11)
    count = 0
    for pair in range(pairs):
        difficulty = rng.normal(3, 2, 1000)
        name, k = parse_metrics(metric)[0]
        a, b = (gains(some_ranks(rng, difficulty, of), name, k) for of in (gift, 0.0))
        count += randomisation_p(a - b, 999, pair) < 0.05
    return count


@pytest.mark.parametrize("metric", ["ndcg@10", "hr@10"])
def test_equal_models_are_rarely_called_different(metric: str) -> None:
    """200 pairs at .05: the count lies where a binomial does in 99.9 % of all cases."""
    chance = [math.comb(200, n) * 0.05**n * 0.95 ** (200 - n) for n in range(201)]
    below = np.cumsum(chance)
    low, high = np.searchsorted(below, [0.0005, 0.9995])
    assert low <= rejected(metric, 0.0, 200) <= high


def test_a_real_difference_is_found() -> None:
    assert rejected("ndcg@10", 0.4, 50) >= 48


def test_twenty_thousand_users_in_seconds() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(3, 2, 22_363)
    earned = {
        run: {m: gains(some_ranks(rng, difficulty), m, 10) for m in ("ndcg", "hr")} for run in "ab"
    }
    start = time.process_time()
    first = paired_tests(earned, [("a", "b")])
    assert time.process_time() - start < 10  # about 1 on an idle core
    assert first == paired_tests(earned, [("a", "b")])
    assert first != paired_tests(earned, [("a", "b")], seed=1)
    assert first[0].low < first[0].difference < first[0].high


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of one log, and some that are not comparable with them."""
    root = tmp_path_factory.mktemp("runs")
    log, other = write_log(root / "log.txt"), write_log(root / "other.txt", seed=1)
    two = ("--epochs", "2")
    assert run(log, root / "one", *two) == 0
    assert run(log, root / "two", *two, "--seed", "2", "--no-user-ids") == 0
    assert run(log, root / "floor", "--model", "popularity") == 0
    assert run(other, root / "other", "--model", "popularity") == 0
    assert run(log, root / "filtered", "--model", "popularity", "--min-user", "6") == 0
    assert run(log, root / "all", "--holdout", "none", "--max-steps", "1") == 0
    return root


def test_figures_are_those_of_the_runs(runs: Path) -> None:
    one, two, floor = (runs / name for name in ("one", "two", "floor"))
    for split, protocol in itertools.product(("test", "valid"), ("masked", "unmasked")):
        found = compare(
            one, two, floor, metric=["ndcg@10", "hr@20"], split=split, protocol=protocol
        )
        assert list(found.figures) == [str(one), str(two), str(floor)]
        for path, figures in found.figures.items():
            kept = json.loads((Path(path) / "result.json").read_text())[split][protocol]
            assert figures == {name: kept[name] for name in ("ndcg@10", "hr@20")}
        assert len(found.tests) == 6 and found.samples == 60
        for test in found.tests:
            between = (
                found.figures[test.run][test.metric] - found.figures[test.against][test.metric]
            )
            assert test.difference == pytest.approx(between, abs=1e-12)
            assert test.p <= test.p_holm
    assert found == compare(one, two, floor, metric="ndcg@10,hr@20", split=split, protocol=protocol)


def test_against_one(runs: Path) -> None:
    one, two, floor = (runs / name for name in ("one", "two", "floor"))
    inside = compare(one, two, floor, metric="mrr@7", against=os.path.relpath(two))
    outside = compare(one, floor, metric="mrr@7", against=two)
    for found in (inside, outside):
        assert [(t.run, t.against) for t in found.tests] == [
            (str(one), str(two)),
            (str(floor), str(two)),
        ]
    assert inside.tests == outside.tests


def test_the_command(runs: Path, capsys: Capture) -> None:
    argv = [str(runs / "one"), str(runs / "floor"), "--metric", "ndcg@10", "--protocol", "masked"]
    assert verb.main(argv) == 0
    text = capsys.readouterr().out
    assert "log, test: 60 users, history masked" in text
    assert "paired tests, 10000 resamples" in text
    assert str(runs) not in text and "\nfloor " in text
    assert verb.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    same = compare(*argv[:2], metric="ndcg@10", protocol="masked").to_dict()
    assert found == same
    (test,) = found["tests"]
    assert f"{test['difference']:+.4f}" in text and f"{test['p_holm']:.4f}" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "arguments are required: RUN"),
        (["one"], "two runs or more"),
        (["one", "two", "./one"], "given twice"),
        (["one", "nowhere"], "RUN nowhere: no such directory"),
        (["one", "all"], "the run is not finished, or holds out no test targets"),
        (["one", "other"], "runs of other data cannot be compared: sha256 is"),
        (["one", "filtered"], "filters is {} in one, {'min_user': 6} in filtered"),
        (["one", "two", "--against", "other"], "sha256"),
        (["one", "two", "--metric", "ndgc@10"], "did you mean 'ndcg@10'"),
        (["one", "two", "--metric", "ndcg"], "expected one of hr, ndcg"),
        (["one", "two", "--metric", "hr@0"], "a cut-off"),
        (["one", "two", "--metric", "hr@5,hr@5"], "given twice"),
        (["one", "two", "--metric", "coverage@5"], "no value a user"),
        (["one", "two", "--protocol", "maskd"], "did you mean 'masked'"),
        (["one", "two", "--split", "train"], "expected test or valid"),
        (["one", "two", "--metrics", "hr@5"], "did you mean '--metric'"),
    ],
)
def test_bad_input(
    runs: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str
) -> None:
    monkeypatch.chdir(runs)
    assert verb.main(argv) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ")


def copy_with(source: Path, place: Path, users: Any) -> Path:
    """A run whose ranks are of other users."""
    place.mkdir()
    for name in ("config.json", "data.json"):
        (place / name).write_bytes((source / name).read_bytes())
    with np.load(source / "test_ranks.npz") as kept:
        arrays = {name: kept[name] for name in kept.files} | {"user": users}
    np.savez(place / "test_ranks.npz", **arrays)
    return place


def test_other_users_and_damaged_files(runs: Path, tmp_path: Path) -> None:
    others = copy_with(runs / "one", tmp_path / "others", np.arange(60, dtype=np.int32)[::-1])
    with pytest.raises(InputError, match="ranked other test users"):
        compare(runs / "one", others)
    for content in (b"", b"PK\x03\x04 cut", b"text"):
        (others / "test_ranks.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"others/test_ranks\.npz: damaged"):
            compare(runs / "one", others)
    with pytest.raises(InputError, match="resamples is 0"):
        compare(runs / "one", runs / "two", resamples=0)


def test_the_name_is_the_function_and_needs_no_torch() -> None:
    code = (
        "import sys, mclrec_fast.compare\n"
        "from mclrec_fast import compare\n"
        "assert callable(compare) and mclrec_fast.compare is compare\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "mclrec_fast.compare", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "two runs or more" in done.stderr
    assert mclrec_fast.compare is compare
