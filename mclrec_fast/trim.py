"""`python -m mclrec_fast.trim`: finished runs without weights and user ids.

The same as `mclrec-fast trim`, for where scripts are not on the path.
"""

import sys

from .commands.trim import main

if __name__ == "__main__":
    sys.exit(main())
