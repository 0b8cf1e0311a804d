"""Random kills: a training is killed at random moments, resumed, killed again, until it is done."""

import random
import time
from collections import Counter
from pathlib import Path

from mclrec_fast.runs.directory import CONFIG

from .processes import Commands
from .recovery import Training, require_clean, require_recovered


def kill_at_random(
    commands: Commands, training: Training, work: Path, number: int, seed: int = 0
) -> Counter[str]:
    """Kills trainings, so many times in all; each must end with the bits of an undisturbed one.

    The kills fall within the time that a training takes here and now.
    """
    began = time.perf_counter()
    assert commands.run(training.new(work / "timed")).code == 0
    longest = time.perf_counter() - began
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    while counts["kills"] < number:
        out = work / f"run-{counts['runs']}"
        for _ in range(chance.randint(1, 5)):
            argv = training.resumed(out) if (out / CONFIG).exists() else training.new(out)
            ended = commands.run(argv, kill_after=chance.uniform(0.001, longest))
            require_clean(ended)
            assert ended.code in (-9, 0), ended
            counts["kills" if ended.code else "done before the kill"] += 1
            counts["without a run yet"] += not (out / CONFIG).exists()
        counts[require_recovered(commands, training, out)] += 1
        counts["runs"] += 1
    return counts
