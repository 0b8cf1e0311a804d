"""What `recommend` and `similar-items` share: the options of lists, the model, the lists' files."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import DEFAULT_K
from ..config_keys import Given
from ..errors import InputError
from . import cli

if TYPE_CHECKING:
    from ..config import Config
    from ..console import Console
    from ..recommender import Recommender

MACHINE_KEYS = ("backend", "threads", "device", "precision")


def add_lists(parser: cli.Parser) -> None:
    """Adds -k, --items and --exclude."""
    parser.add_argument(
        *("-k", "--k"),
        metavar="N",
        type=int,
        default=DEFAULT_K,
        help="items for each, at most (%(default)s)",
    )
    for name, what in (("items", "recommend these alone"), ("exclude", "never recommend these")):
        parser.add_argument(
            f"--{name}",
            metavar="ITEM",
            nargs="+",
            action="extend",
            help=f"{what}; an id that begins with - is --{name}=-id",
        )


def add_out(parser: cli.Parser) -> None:
    """Adds --out."""
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write there, by the ending .jsonl, .parquet or CSV; - is standard output, CSV",
    )


def check(arguments: Namespace) -> None:
    """What can be told before anything is loaded.

    Raises:
        InputError: k is below 1, or the file cannot be written.
    """
    from ..answer_files import check_out

    if arguments.k < 1:
        raise InputError(f"--k must be at least 1, not {arguments.k}")
    check_out(arguments.out)


def read_pairs(path: Path, option: str, threads: int) -> Any:
    """The table of a user and an item a row (or of a user and all items a line) in a file.

    Raises:
        InputError: anything wrong with it.
    """
    from ..data.columns import ColumnNames
    from ..data.logfile import Request, read_log

    names = ColumnNames(None, None, None, None, False)
    try:
        return read_log(str(path), Request("auto", names, False, "auto", threads)).table
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


@contextmanager
def recommender_of(
    run: Path, given: Mapping[str, Given], lists: Mapping[str, Any], console: "Console"
) -> "Iterator[tuple[Recommender, Config]]":
    """The model of a run, on the machine that the options say, keeping to lists.

    Raises:
        InputError: there is no such run, or the lists leave nothing.
    """
    from ..recommender import Recommender
    from ..runs.loading import load_run
    from ..training.fit import used_here
    from ..training.machine import machine_for

    of_machine = {name: given[name] for name in MACHINE_KEYS if name in given}
    config, model, _ = load_run(run)
    config = used_here(config, of_machine, console.line)
    train = config.train
    with machine_for(train) as device:
        size = train.eval_batch_size
        recommender = Recommender(model.to(device), batch_size=size, backend=train.backend)
        yield recommender.filtered(**lists), config
