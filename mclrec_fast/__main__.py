"""The environment report: `python -m mclrec_fast [--json]`. It diagnoses and changes nothing."""

import argparse
import json
import sys
from collections.abc import Sequence

from .environment import environment, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was built, what is used and why not more."""
    parser = argparse.ArgumentParser(
        prog="python -m mclrec_fast",
        description="What was built, for which instruction sets and GPUs, what is used and why.",
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    options = parser.parse_args(arguments)
    facts = environment()
    print(json.dumps(facts, indent=2) if options.json else report(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
