"""`python -m mclrec_fast.reproduce`: the paper's tables.

The same as `mclrec-fast reproduce`, for where scripts are not on the path.
"""

import sys

from .commands.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
