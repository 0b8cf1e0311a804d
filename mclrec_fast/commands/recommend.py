"""`mclrec-fast recommend RUN`: the best next items, as CSV, in the ids of the run's data.

For every user of a log (`--data FILE`, new users and histories included; by default the log that
the run was trained on), or for one history given on the command line. A thin command line; the work
is recommender.py.
"""

import csv
import io
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _files
from ..config import DEFAULT_K, KEYS, LOG_KEYS
from ..config_keys import Given
from ..errors import InputError, RunError
from . import cli

if TYPE_CHECKING:
    from ..recommender import Recommendations

_MACHINE_KEYS = ("backend", "threads", "device")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("recommend", "Recommend items to the users of a log, as CSV.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument(
        "--history",
        metavar="ITEM",
        nargs="+",
        help="item ids of one history, oldest first, instead of a log",
    )
    parser.add_argument(
        "--k", metavar="N", type=int, default=DEFAULT_K, help="items for each user (%(default)s)"
    )
    parser.add_argument(
        "--include-seen", action="store_true", help="recommend items of the history, too"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write there, not to stdout")
    cli.add_config_options(parser, keys=(*LOG_KEYS, *_MACHINE_KEYS))
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, recommend, write."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    if arguments.k < 1:
        raise InputError(f"--k must be at least 1, not {arguments.k}")
    _check_out(arguments.out)
    of_log = [key.option for name, key in KEYS.items() if name in LOG_KEYS and name in given]
    if arguments.history and of_log:
        raise InputError(f"--history and {of_log[0]} contradict each other: give one of them")
    text = _recommend(arguments, given)
    if arguments.out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        try:
            _files.write_atomically(arguments.out, text.encode())
        except OSError as error:
            raise RunError(f"--out {arguments.out}: {error.strerror or error}") from error


def _check_out(path: Path | None) -> None:
    """Before anything is computed: the file is new and has a directory to lie in."""
    if path is None:
        return
    if path.exists():
        raise InputError(f"--out {path} exists: name another file, or remove it first")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: no directory {path.parent}; make it first")


def _recommend(arguments: Namespace, given: Mapping[str, Given]) -> str:
    """The CSV; what was passed over is said on stderr."""
    from ..console import Console
    from ..recommender import Recommender
    from ..runs.loading import data_differs, load_run
    from ..runs.other import read_other
    from ..training.fit import used_here
    from ..training.machine import machine_for

    console = Console(sys.stderr)
    of_machine = {name: given[name] for name in _MACHINE_KEYS if name in given}
    k, exclude_seen = arguments.k, not arguments.include_seen
    with console.warnings_as_lines():
        config, model, _ = load_run(arguments.run)
        config = used_here(config, of_machine)
        train = config.train
        with machine_for(train) as device:
            size = train.eval_batch_size
            recommender = Recommender(model.to(device), batch_size=size, backend=train.backend)
            if arguments.history:
                found = recommender.recommend([arguments.history], k, exclude_seen=exclude_seen)
            else:
                with console.waiting("reading the log"):
                    dataset = read_other(arguments.run, config, given)
                log = dataset.log
                differs = "" if "data" in given else data_differs(arguments.run, dataset)
                if differs:
                    console.line(f"note: {differs}; recommending to what it holds now")
                with console.progress("recommending", log.n_users) as advance:
                    found = recommender.recommend_log(
                        log, k, exclude_seen=exclude_seen, after_batch=advance
                    )
    passed = int(found.unknown.sum())
    if passed:
        console.line(f"passed over {passed} interactions with items that the run does not know")
    nothing = sum(not items for items in found.items)
    if nothing:
        console.line(f"nothing to recommend for {nothing} of {len(found.items)} histories")
    return _csv(found)


def _csv(found: "Recommendations") -> str:
    """`user,rank,item,score` lines, or without the user where there is one history only."""
    text, users = io.StringIO(), found.users
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*([] if users is None else ["user"]), "rank", "item", "score"])
    for row, (items, scores) in enumerate(zip(found.items, found.scores, strict=True)):
        who = [] if users is None else [users[row]]
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1):
            writer.writerow([*who, rank, item, f"{score:.6g}"])
    return text.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
