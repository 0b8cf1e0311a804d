"""Random requests to one recommender from several threads, and the same one after another."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mclrec_fast.recommender import Recommender

Request = tuple[list[list[Any]], int, bool]


def random_request(known: list[Any], chance: random.Random) -> Request:
    """Histories of known and unknown items, k, and whether what was seen is left out."""
    ids = [*known, *known, "nobody", -7, 10**15, str(known[0])]
    histories = [
        [chance.choice(ids) for _ in range(chance.choice([0, 1, 3, 20, 60]))]
        for _ in range(chance.choice([0, 1, 1, 4, 30]))
    ]
    return (
        histories,
        chance.choice([1, 3, len(known), 10 * len(known), 10**12]),
        chance.random() < 0.5,
    )


def ask_in_threads(run: Path, number: int, threads: int = 4, seed: int = 0) -> Counter[str]:
    """So many requests; each answer from a thread must be the one given in order."""
    recommender = Recommender.load(run)
    chance = random.Random(seed)
    requests = [random_request(recommender.item_ids.tolist(), chance) for _ in range(number)]

    def answer(request: Request) -> Any:
        histories, k, exclude = request
        found = recommender.recommend(histories, k, exclude_seen=exclude)
        return found.items, found.scores, found.unknown.tolist()

    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(answer, requests))
    for place, (request, found) in enumerate(zip(requests, together, strict=True)):
        assert found == answer(request), f"request {place}: another answer in a thread"
    return Counter({"requests": number, "histories": sum(len(r[0]) for r in requests)})
