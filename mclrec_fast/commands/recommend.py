"""`mclrec-fast recommend RUN`: the best next items, as CSV, in the ids of the run's data.

For the users of a log (`--data FILE`, new users and histories included; by default the log that
the run was trained on), all or some (`--users`), or for one history given on the command line,
among all items or some (`--items`, `--exclude`). A thin command line; the work
is recommender.py.
"""

import csv
import io
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _files
from ..config import DEFAULT_K, KEYS, LOG_KEYS
from ..config_keys import Given
from ..errors import InputError, RunError
from . import cli

if TYPE_CHECKING:
    from ..answers import Recommendations

_MACHINE_KEYS = ("backend", "threads", "device")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("recommend", "Recommend items to the users of a log, as CSV.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument(
        "--history",
        metavar="ITEM",
        nargs="+",
        action="extend",
        help="item ids of one history, oldest first, instead of a log; one that begins with - is "
        "--history=-id",
    )
    parser.add_argument(
        "--users",
        metavar="USER",
        nargs="+",
        action="extend",
        help="users of the log, by their ids (default: all)",
    )
    for name, what in (("items", "recommend these alone"), ("exclude", "never recommend these")):
        parser.add_argument(
            f"--{name}",
            metavar="ITEM",
            nargs="+",
            action="extend",
            help=f"{what}; an id that begins with - is --{name}=-id",
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
    if arguments.history and arguments.users:
        raise InputError("--history and --users contradict each other: give one of them")
    if arguments.history and of_log:
        raise InputError(f"--history and {of_log[0]} contradict each other: give one of them")
    text = _recommend(arguments, given)
    if arguments.out is None:
        _print(text)
    else:
        try:
            _files.write_atomically(arguments.out, text.encode())
        except OSError as error:
            raise RunError(f"--out {arguments.out}: {error.strerror or error}") from error


def _print(text: str) -> None:
    """To a terminal in its encoding; else in UTF-8, whatever the console's encoding is."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None or sys.stdout.isatty():
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        sys.stdout.write(text)
    else:
        sys.stdout.flush()
        binary.write(text.encode())
    sys.stdout.flush()


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
    asked: dict[str, Any] = {name: getattr(arguments, name) for name in ("k", "items", "exclude")}
    asked["exclude_seen"] = not arguments.include_seen
    with console.warnings_as_lines():
        config, model, _ = load_run(arguments.run)
        config = used_here(config, of_machine)
        train = config.train
        with machine_for(train) as device:
            size = train.eval_batch_size
            recommender = Recommender(model.to(device), batch_size=size, backend=train.backend)
            if arguments.history:
                found = recommender.recommend([arguments.history], **asked)
            else:
                with console.waiting("reading the log"):
                    dataset = read_other(arguments.run, config, given)
                log = dataset.log
                differs = "" if "data" in given else data_differs(arguments.run, dataset)
                if differs:
                    console.line(f"note: {differs}; recommending to what it holds now")
                count = len(arguments.users or ()) or log.n_users
                with console.progress("recommending", count) as advance:
                    found = recommender.recommend_log(
                        log, users=arguments.users, after_batch=advance, **asked
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
