"""`python -m mclrec_fast.plot`: the course of runs, and how they serve whom, as pictures.

The same as `mclrec-fast plot`, for where scripts are not on the path.
"""

import sys

from .commands.plot import main

if __name__ == "__main__":
    sys.exit(main())
