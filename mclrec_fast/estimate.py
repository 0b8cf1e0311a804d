"""`python -m mclrec_fast.estimate`: what a training would take, before it is run.

The same as `mclrec-fast estimate`, for where scripts are not on the path.
"""

import sys

from .commands.estimate import main

if __name__ == "__main__":
    sys.exit(main())
