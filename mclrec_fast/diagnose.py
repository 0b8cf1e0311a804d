"""`python -m mclrec_fast.diagnose`: how the representations of runs lie in space.

The same as `mclrec-fast diagnose`, for where scripts are not on the path.
"""

import sys

from .commands.diagnose import main

if __name__ == "__main__":
    sys.exit(main())
