"""How often does the paired test call equal models different? On the ranks of two finished runs.

    python -m benchmarks.false_alarms runs/a runs/b

Each pair of equal models is made of the runs: users are drawn with replacement, and who of the two
is called A and who B is drawn user by user. What the test then finds is chance alone, with the
ties, the zeros and the skew of real gains. At a level of .05 it should be 5 % of the pairs.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mclrec_fast.comparison import (
    LEVEL,
    Floats,
    bootstrap_interval,
    parse_metrics,
    randomisation_p,
    read_together,
)
from mclrec_fast.errors import InputError
from mclrec_fast.metrics import PROTOCOLS, gains


class Count(NamedTuple):
    """Of `pairs` pairs of equal models: p below the level, and intervals without 0."""

    pairs: int
    significant: int
    without_zero: int


def equal_pairs(a: Floats, b: Floats, pairs: int, seed: int) -> Iterator[Floats]:
    """Per-user differences [M] of equal models.

    Args:
        a: what each user earns from a run, [M].
        b: what each earns from another, [M].
        pairs: how many pairs.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    for _ in range(pairs):
        users = rng.integers(0, len(a), len(a))
        signs = rng.integers(0, 2, len(a)) * 2 - 1
        yield (a - b)[users] * signs


def count(a: Floats, b: Floats, pairs: int, resamples: int, seed: int) -> Count:
    """Test `pairs` pairs of equal models made of two runs' gains [M]."""
    significant = without_zero = 0
    for number, difference in enumerate(equal_pairs(a, b, pairs, seed)):
        significant += randomisation_p(difference, resamples, number) < LEVEL
        low, high = bootstrap_interval(difference, resamples, number)
        without_zero += low > 0 or high < 0
    return Count(pairs, significant, without_zero)


def expected(pairs: int) -> tuple[int, int]:
    """Where such a count lies in 99 % of all cases, if chance is 5 %."""
    chances = [math.comb(pairs, n) * LEVEL**n * (1 - LEVEL) ** (pairs - n) for n in range(pairs)]
    low, high = np.searchsorted(np.cumsum(chances), [0.005, 0.995])
    return int(low), int(high)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("runs", metavar="RUN", nargs=2)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--metric", default="ndcg@10,hr@10")
    parser.add_argument("--seed", type=int, default=0)
    arguments: Any = parser.parse_args(argv)
    try:
        metrics = parse_metrics(arguments.metric)
        a, b = read_together(arguments.runs, "test").values()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    low, high = expected(arguments.pairs)
    print(f"{arguments.pairs} pairs, {len(a.users)} users; by chance {low} to {high} (99 %)")
    print(f"| history | metric | p < {LEVEL:g} | intervals without 0 |\n|---|---|---|---|")
    for protocol in PROTOCOLS:
        for name, k in metrics:
            of_a, of_b = (gains(ranks.of(protocol), name, k) for ranks in (a, b))
            found = count(of_a, of_b, arguments.pairs, arguments.resamples, arguments.seed)
            print(f"| {protocol} | {name}@{k} | {found.significant} | {found.without_zero} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
