"""Finished runs side by side on the same users, and whether their difference is more than chance.

From the ranks that runs keep: no model is loaded and nothing is ranked again. The statistics are
the paired bootstrap (Efron & Tibshirani 1993) and the paired randomisation test, which exchanges
the two systems user by user (Smucker et al., CIKM 2007), corrected by Holm (1979). What chance is
here is the draw of the users; another seed of the training is another run.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .config_keys import did_you_mean
from .console import Console
from .data.ids import read_arrays
from .errors import InputError
from .metrics import LISTED, PROTOCOLS, RANKED, Ints, gains
from .runs.directory import CONFIG, DATA, read_json, refuse_saved_model, require_run
from .runs.trimmed import unpack_ranks

RESAMPLES = 10_000
LEVEL = 0.05
_CELLS = 1 << 20  # numbers drawn at a time: what bounds the memory

Floats = NDArray[np.floating[Any]]


class PairedTest(NamedTuple):
    """The difference of two runs in one metric.

    Attributes:
        run, against: their names.
        metric: as `ndcg@10`.
        difference: of the means over the users, run - against.
        low, high: its 95 % interval, by the bootstrap.
        p: how often exchanging the two at random gives so large a difference, either way.
        p_holm: the same, corrected for the number of tests made together.
    """

    run: str
    against: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


class Comparison(NamedTuple):
    """Runs side by side.

    Attributes:
        dataset: its name.
        split: "test" or "valid".
        protocol: "unmasked" or "masked".
        samples: users that all of them ranked (M).
        resamples: draws behind every interval and every p.
        figures: each run's metrics by name.
        tests: every pair in every metric.
    """

    dataset: str
    split: str
    protocol: str
    samples: int
    resamples: int
    figures: dict[str, dict[str, float]]
    tests: list[PairedTest]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return self._asdict() | {"tests": [test._asdict() for test in self.tests]}

    def say(self, console: Console) -> None:
        """Two tables, metrics and tests; runs by their folders' names, where these differ."""
        short = {run: Path(run).resolve().name for run in self.figures}
        if len(set(short.values())) < len(short):
            short = {run: run for run in short}
        where = f"{self.dataset}, {self.split}: {self.samples} users, history {self.protocol}"
        names = list(next(iter(self.figures.values())))
        rows = [
            [short[run], *(f"{v:.4f}" for v in of.values())] for run, of in self.figures.items()
        ]
        console.table(where, ["run", *names], rows)
        tests = [t._replace(run=short[t.run], against=short[t.against]) for t in self.tests]
        console.table(
            f"paired tests, {self.resamples} resamples; * below {LEVEL:g} after Holm's correction",
            ["run", "against", "metric", "difference", "95 % interval", "p", "p (Holm)", ""],
            [cells_of(test) for test in tests],
        )


def cells_of(test: PairedTest) -> list[str]:
    """A test as cells of a table."""
    return [
        test.run,
        test.against,
        test.metric,
        f"{test.difference:+.4f}",
        f"{test.low:+.4f} .. {test.high:+.4f}",
        f"{test.p:.4f}",
        f"{test.p_holm:.4f}",
        "*" if test.p_holm < LEVEL else "",
    ]


def compare(
    *runs: str | os.PathLike[str],
    metric: str | Iterable[str] = ("ndcg@10", "hr@10"),
    protocol: str = PROTOCOLS[0],
    split: str = "test",
    against: str | os.PathLike[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two or more finished runs on the users of a split.

    Args:
        runs: their directories.
        metric: names as `ndcg@10`, in a list or separated by commas; any cut-off will do.
        protocol: "unmasked" or "masked".
        split: "test" or "valid".
        against: the run that all others are tested against; None tests every pair.
        resamples: draws behind every interval and every p.
        seed: of the draws; the same seed gives the same figures.

    Raises:
        InputError: fewer than two runs, one twice, one that is not finished, runs of other data or
            another split, an unknown metric or protocol.
    """
    names = [os.fspath(run) for run in runs]
    wanted = parse_metrics(metric)
    _require(protocol, PROTOCOLS, "protocol")
    _require(split, ("test", "valid"), "split")
    if resamples < 1:
        raise InputError(f"resamples is {resamples}, expected at least 1")
    base = None if against is None else os.fspath(against)
    if base is not None and not any(_same_place(base, name) for name in names):
        names.append(base)
    pairs = _pairs(names, base)
    ranked = read_together(names, split)
    first = next(iter(ranked.values()))
    earned = {
        run: {f"{m}@{k}": gains(ranks.of(protocol), m, k) for m, k in wanted}
        for run, ranks in ranked.items()
    }
    tests = paired_tests(earned, pairs, resamples=resamples, seed=seed)
    figures = {run: {m: float(g.mean()) for m, g in of.items()} for run, of in earned.items()}
    return Comparison(first.dataset, split, protocol, len(first.users), resamples, figures, tests)


def _require(word: str, known: Sequence[str], what: str) -> None:
    if word not in known:
        raise InputError(
            f"{what} {word!r}: expected {' or '.join(known)}{did_you_mean(word, known)}"
        )


def _same_place(a: str, b: str) -> bool:
    return Path(a).resolve() == Path(b).resolve()


def _pairs(names: Sequence[str], base: str | None) -> list[tuple[str, str]]:
    """Who is tested against whom.

    Raises:
        InputError: fewer than two runs, or one twice.
    """
    if len(names) < 2:
        raise InputError("compare: give two runs or more")
    for a, b in combinations(names, 2):
        if _same_place(a, b):
            raise InputError(f"RUN {b}: given twice, a run does not differ from itself")
    if base is None:
        return [(b, a) for a, b in combinations(names, 2)]
    base = next(name for name in names if _same_place(base, name))
    return [(name, base) for name in names if name != base]


def parse_metrics(given: str | Iterable[str]) -> list[tuple[str, int]]:
    """Names and cut-offs of metrics written as `ndcg@10`.

    Raises:
        InputError: none, one twice, or one that does not exist, with the nearest that does.
    """
    words = given.split(",") if isinstance(given, str) else list(given)
    found: list[tuple[str, int]] = []
    for word in (word.strip() for word in words):
        name, _, k = word.partition("@")
        if name in LISTED:
            raise InputError(
                f"metric {word!r}: it judges a catalogue's use and has no value a user"
            )
        if name not in RANKED or not (k.isascii() and k.isdigit() and int(k) >= 1):
            hint = did_you_mean(word, [f"{m}@{k if k.isdigit() else 10}" for m in RANKED])
            raise InputError(
                f"metric {word!r}: expected one of {', '.join(RANKED)}, @ and a cut-off{hint}"
            )
        if (name, int(k)) in found:
            raise InputError(f"metric {word!r} is given twice")
        found.append((name, int(k)))
    return found


class RunRanks(NamedTuple):
    """What a run keeps of one split.

    Attributes:
        path: the run.
        dataset: its name.
        users: int32 [M], rows of the log.
        unmasked, masked: int64 [M], ranks of the targets, from 0.
        data: what its samples depend on, by name.
    """

    path: Path
    dataset: str
    users: NDArray[np.int32]
    unmasked: Ints
    masked: Ints
    data: dict[str, Any]

    def of(self, protocol: str) -> Ints:
        """The ranks under a protocol."""
        return self.masked if protocol == "masked" else self.unmasked


def read_ranks(path: Path, split: str) -> RunRanks:
    """The ranks of a finished run.

    Raises:
        InputError: no run there, or it is not finished, or its files are damaged.
    """
    require_run(path, "RUN")
    refuse_saved_model(path, "RUN", "the directory of its training has ranks to compare")
    file = path / f"{split}_ranks.npz"
    if not file.exists():
        raise InputError(
            f"RUN {path}: no {file.name}: the run is not finished, or holds out no {split} "
            f"targets (go on with it: mclrec-fast train --resume {path})"
        )
    try:
        kept = unpack_ranks(read_arrays(file))
        users, unmasked, masked = (kept[name] for name in ("user", *PROTOCOLS))
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise InputError(f"RUN {file}: damaged: {type(error).__name__}: {error}") from None
    try:
        card, how = read_json(path / DATA), read_json(path / CONFIG)["data"]
        data = {name: card.get(name) for name in _SAME} | {name: how.get(name) for name in _HOW}
        return RunRanks(path, str(card["name"]), users, unmasked, masked, data)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"RUN {path}: damaged: {type(error).__name__}: {error}") from None


_SAME = ("sha256", "holdout", "columns", "filters", "users", "items", "interactions")
_HOW = ("valid_fraction", "test_fraction", "ignore_times")


def read_together(names: Sequence[str], split: str) -> dict[str, RunRanks]:
    """The ranks of several runs, of the same users in the same order.

    Raises:
        InputError: runs of other data, of another split, or of other users.
    """
    ranked = {name: read_ranks(Path(name), split) for name in names}
    first = ranked[names[0]]
    for other in list(ranked.values())[1:]:
        for name, value in first.data.items():
            if other.data[name] != value:
                raise InputError(
                    f"runs of other data cannot be compared: {name} is {value} in {first.path}, "
                    f"{other.data[name]} in {other.path}"
                )
        if not np.array_equal(other.users, first.users):
            raise InputError(
                f"{other.path} ranked other {split} users than {first.path}: they cannot be "
                "compared pair by pair"
            )
    return ranked


def paired_tests(
    earned: Mapping[str, Mapping[str, Floats]],
    pairs: Iterable[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[PairedTest]:
    """Test pairs in every metric, Holm-corrected together.

    Args:
        earned: by system and metric, what each user earns, [M].
        pairs: the systems to compare, first minus second.
        resamples: draws behind every interval and every p.
        seed: of the draws.
    """
    tests = []
    for a, b in pairs:
        for metric, of_a in earned[a].items():
            difference = of_a - earned[b][metric]  # [M]
            low, high = bootstrap_interval(difference, resamples, seed)
            p = randomisation_p(difference, resamples, seed)
            tests.append(PairedTest(a, b, metric, float(difference.mean()), low, high, p, p))
    corrected = holm([test.p for test in tests])
    return [test._replace(p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def _blocks(resamples: int, width: int) -> Iterator[int]:
    """How many resamples of so many numbers are drawn at a time."""
    most = max(1, _CELLS // max(1, width))
    for begin in range(0, resamples, most):
        yield min(most, resamples - begin)


def bootstrap_interval(difference: Floats, resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of per-user differences, [M].

    M users are drawn with replacement. Those who differ by nothing add nothing, so that only their
    number is drawn: a binomial of all draws.
    """
    size, some = len(difference), difference[difference != 0]  # [M], [m]
    rng = np.random.default_rng([seed, 0])
    sums = []
    for block in _blocks(resamples, len(some)):
        counts = rng.binomial(size, len(some) / size, block)  # [block]
        drawn = some[rng.integers(0, max(1, len(some)), counts.sum())]
        # One more 0, for draws of nobody at the end; what reduceat says of nobody is left out.
        sums_of = np.add.reduceat(np.append(drawn, 0.0), np.cumsum(counts) - counts)
        sums.append(np.where(counts > 0, sums_of, 0.0))
    low, high = np.quantile(np.concatenate(sums) / size, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def randomisation_p(difference: Floats, resamples: int, seed: int) -> float:
    """Two-sided p of per-user differences [M] whose signs are drawn at random.

    The observed signs count as one of the draws, so that p is never 0 and the test never too sharp.
    """
    some = np.asarray(difference[difference != 0], np.float64)  # [m]
    rng = np.random.default_rng([seed, 1])
    observed = abs(some.sum()) - 1e-12 * np.abs(some).sum()  # equal but for rounding is equal
    as_large = 0
    for block in _blocks(resamples, len(some)):
        bits = rng.integers(0, 256, (block, -(-len(some) // 8)), np.uint8)
        flipped = np.unpackbits(bits, axis=1, count=len(some)) @ some  # [block]
        as_large += int(np.count_nonzero(np.abs(some.sum() - 2 * flipped) >= observed))
    return (as_large + 1) / (resamples + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values made together, in their order."""
    corrected, largest = [0.0] * len(p), 0.0
    for done, at in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - done) * p[at]))
        corrected[at] = largest
    return corrected
