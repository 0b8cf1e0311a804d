"""`python -m mclrec_fast.tune`: a search for settings, by the validation alone.

The same as `mclrec-fast tune`, for where scripts are not on the path.
"""

import sys

from .commands.tune import main

if __name__ == "__main__":
    sys.exit(main())
