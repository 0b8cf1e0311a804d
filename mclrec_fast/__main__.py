"""The environment report: `python -m mclrec_fast [--json]`. It diagnoses and changes nothing."""

import sys

from .commands.environment import main

if __name__ == "__main__":
    sys.exit(main())
