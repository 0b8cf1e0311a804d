"""`mclrec-fast export RUN`: item vectors, or the model itself, as a file for other programs.

A thin command line; the work is exporting/export.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import DEFAULT_K
from ..errors import InputError
from . import cli

FORMATS = ("npy", "safetensors", "torch", "onnx", "faiss")


def parser() -> cli.Parser:
    """The options of the verb."""
    parser = cli.Parser(
        "export", "Write a run's item vectors, or its model, as a file for other programs."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a run, or of save")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="where to")
    parser.add_argument(
        "--format", choices=FORMATS, help="what kind of file (default: by FILE's ending)"
    )
    parser.add_argument(
        "--k",
        metavar="N",
        default=str(DEFAULT_K),
        help=f"torch and onnx: items a history gets (default: {DEFAULT_K})",
    )
    parser.add_argument(
        "--include-seen", action="store_true", help="torch and onnx: items of the history, too"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    return parser


def verb(argv: Sequence[str] | None) -> None:
    """Parse, write, say what was found."""
    arguments = parser().parse(argv)
    if not (arguments.k.isascii() and arguments.k.isdigit() and int(arguments.k)):
        raise InputError(f"--k {arguments.k!r}: expected a whole number from 1")
    from ..console import Console
    from ..runs.loading import load_run

    console = Console(sys.stderr if arguments.json else sys.stdout)
    with console.warnings_as_lines():
        model = load_run(arguments.run).model
        found = model.export(
            arguments.out,
            arguments.format,
            k=int(arguments.k),
            exclude_seen=not arguments.include_seen,
        )
    console.line(found.render())
    if arguments.json:
        cli.print_json(found.to_dict())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return cli.run_verb(verb, argv)
