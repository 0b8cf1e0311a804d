"""`mclrec-fast recommend RUN`: the best next items, in the ids of the run's data.

For the users of a log (`--data FILE`, new users and histories included; by default the log that
the run was trained on), all or some (`--users`), or for one history given on the command line,
among all items or some (`--items`, `--exclude`, by user too). A log of any size is read, answered
and written bit by bit where that can be. A thin command line; the work is recommender.py.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import KEYS, LOG_KEYS
from ..config_keys import Given
from ..errors import InputError
from . import answering, cli

if TYPE_CHECKING:
    from ..answers import Answers
    from ..config import Config
    from ..console import Console
    from ..data import InteractionLog
    from ..data.stream import Part
    from ..recommender import Recommender

_PER_USER = ("items_per_user", "exclude_per_user")
_MIB = 1 << 20


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser("recommend", "Recommend items to the users of a log.")
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
    answering.add_lists(parser)
    for name, what in (("items", "recommend these alone"), ("exclude", "never recommend these")):
        parser.add_argument(
            f"--{name}-per-user",
            metavar="FILE",
            type=Path,
            help=f"to each user in it {what}: a user and an item a row, in any format of a log",
        )
    parser.add_argument(
        "--include-seen", action="store_true", help="recommend items of the history, too"
    )
    answering.add_out(parser)
    cli.add_config_options(parser, keys=(*LOG_KEYS, *answering.MACHINE_KEYS))
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, recommend, write."""
    arguments = parser().parse(argv)
    given = cli.collect(arguments)
    answering.check(arguments)
    of_log = [key.option for name, key in KEYS.items() if name in LOG_KEYS and name in given]
    contradictions = [
        *(["--users"] if arguments.users else []),
        *of_log[:1],
        *("--" + name.replace("_", "-") for name in _PER_USER if getattr(arguments, name)),
    ]
    if arguments.history and contradictions:
        raise InputError(
            f"--history and {contradictions[0]} contradict each other: give one of them"
        )
    from ..console import Console
    from ..training.interrupt import stopped_at_once

    console = Console(sys.stderr)
    out = arguments.out
    left = "what was written is not all" if out is None else f"{out} was not written"
    with console.warnings_as_lines(), stopped_at_once(f"interrupted: {left}"):
        _recommend(arguments, given, console)


class _Asked(NamedTuple):
    """What every part of a log is asked for."""

    recommender: "Recommender"
    k: int
    exclude_seen: bool

    def of(self, log: "InteractionLog", **more: Any) -> "Answers":
        return self.recommender.answer_log(log, self.k, exclude_seen=self.exclude_seen, **more)


def _recommend(arguments: Namespace, given: Mapping[str, Given], console: "Console") -> None:
    """Writes the answers; what was passed over is said on stderr."""
    from ..answer_files import writing

    threads = given["threads"].value if "threads" in given else 1
    lists: dict[str, Any] = {name: getattr(arguments, name) for name in ("items", "exclude")}
    for name in _PER_USER:
        path = getattr(arguments, name)
        if path is not None:
            option = "--" + name.replace("_", "-")
            lists[name] = answering.read_pairs(path, option, threads)
    tally = _Tally()
    with answering.recommender_of(arguments.run, given, lists, console) as (recommender, config):
        asked = _Asked(recommender, arguments.k, not arguments.include_seen)
        label = None if arguments.history else "user"
        if arguments.history:
            answers = iter([_of_history(asked, arguments.history)])
        else:
            answers = _of_log(asked, arguments, config, given, console)
        first = next(answers, None)  # whatever is wrong with the log is said before a file begins
        with writing(arguments.out, recommender.all_item_ids, label) as writer:
            while first is not None:
                tally.add(first)
                writer.write(first)
                first = next(answers, None)
    tally.say(console)


class _Tally:
    """What was passed over."""

    def __init__(self) -> None:
        self.histories = self.unknown = self.nothing = 0

    def add(self, answers: "Answers") -> None:
        self.histories += len(answers.numbers)
        self.unknown += int(answers.unknown.sum())
        self.nothing += int((answers.sizes == 0).sum())

    def say(self, console: "Console") -> None:
        if self.unknown:
            console.line(
                f"passed over {self.unknown} interactions with items that the run does not know"
            )
        if self.nothing:
            console.line(f"nothing to recommend for {self.nothing} of {self.histories} histories")


def _of_history(asked: _Asked, history: Sequence[str]) -> "Answers":
    import numpy as np

    from ..data import InteractionLog
    from ..data.ids import as_objects

    items = np.arange(1, len(history) + 1, dtype=np.int32)
    offsets = np.array([0, len(history)])
    log = InteractionLog(items, offsets, None, np.zeros(1, np.int64), as_objects(["", *history]))
    return asked.of(log)


def _of_log(
    asked: _Asked,
    arguments: Namespace,
    config: "Config",
    given: Mapping[str, Given],
    console: "Console",
) -> "Iterator[Answers]":
    """The answers for a log, some users at a time."""
    from ..data.stream import parts_of
    from ..runs.loading import data_differs
    from ..runs.other import open_other, read_other

    source = None
    if "data" in given and not arguments.users:
        with console.waiting("looking at the log"):
            opened = open_other(config, given)
        source = opened.source
        if opened.histories is not None:
            for note in opened.histories.notes:
                console.line(f"note: {note}")
            parts, total = opened.histories.parts(), opened.histories.total
            if opened.histories.unit == "bytes":
                yield from _answer(asked, parts, total, _MIB, "recommending (MiB read)", console)
            else:
                yield from _answer(asked, parts, total, 1, "recommending (rows read)", console)
            return
        if opened.why_whole:
            console.line(f"note: the log is held in memory whole: {opened.why_whole}")
    with console.waiting("reading the log"):
        dataset = read_other(arguments.run, config, given, source)
    log = dataset.log
    differs = "" if "data" in given else data_differs(arguments.run, dataset)
    if differs:
        console.line(f"note: {differs}; recommending to what it holds now")
    if arguments.users:
        yield asked.of(log, users=arguments.users)
        return
    yield from _answer(asked, parts_of(log), log.n_users, 1, "recommending", console)


def _answer(
    asked: _Asked,
    parts: "Iterator[Part]",
    total: int | None,
    scale: int,
    what: str,
    console: "Console",
) -> "Iterator[Answers]":
    """The answers for each part, with a bar over `total`, shown in units of `scale`."""
    shown = 0
    with _bar(console, what, None if total is None else total // scale) as advance:
        for part in parts:
            yield asked.of(part.log)
            advance(part.done // scale - shown)
            shown = part.done // scale


@contextmanager
def _bar(console: "Console", what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    if total is None:
        with console.waiting(what.partition(" (")[0]):
            yield lambda _count: None
    else:
        with console.progress(what, total) as advance:
            yield advance


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
