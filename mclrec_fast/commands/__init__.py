"""`mclrec-fast VERB ...`: one file a verb, imported when it is asked for.

A verb parses, checks and prints; the work is elsewhere. `python -m mclrec_fast.VERB` is the same.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = {
    "prepare": "read a log of any size once, into a folder that opens at once",
    "train": "train a model on a log, or go on with a run",
    "estimate": "what a training would take, in memory and time",
    "evaluate": "rank a run's validation and test targets again",
    "compare": "finished runs side by side, with paired tests",
    "diagnose": "how representations lie in space: do they collapse?",
    "plot": "losses and metrics over the epochs, and who is served well, as pictures",
    "reproduce": "the tables of the paper: run what is missing, then write them",
    "trim": "finished runs without weights and user ids, small enough to publish",
    "recommend": "the best next items for users or histories",
    "similar-items": "the items nearest to given ones",
    "export": "item vectors or the model as a file for other programs",
    "import-checkpoint": "make a run of a checkpoint of the authors' code",
    "tune": "search for the settings of a model, on the validation",
    "environment": "what was built, what is used and why not more",
}


def usage() -> str:
    """What `mclrec-fast --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join(
        [
            "usage: mclrec-fast VERB [options]",
            "",
            "Fast, exact training of contrastive sequential recommenders.",
            "",
            *lines,
            "",
            "mclrec-fast VERB --help tells more; mclrec-fast --version the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    verb, *rest = [*(sys.argv[1:] if argv is None else argv), ""]
    if verb in ("-h", "--help", ""):
        print(usage())
        return 0 if verb else 2
    if verb == "--version":
        from .. import __version__

        print(f"mclrec-fast {__version__}")
        return 0
    if verb not in VERBS:
        from ..config_keys import did_you_mean

        print(f"error: unknown verb {verb!r}{did_you_mean(verb, VERBS)}", file=sys.stderr)
        print(usage(), file=sys.stderr)
        return 2
    module = import_module(f".{verb.replace('-', '_')}", __name__)
    code: int = module.main(rest[:-1])
    return code
