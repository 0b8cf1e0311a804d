"""`python -m mclrec_fast.prepare`: a log as a folder that is mapped instead of read.

The same as `mclrec-fast prepare`, for where scripts are not on the path.
"""

import sys

from .commands.prepare import main

if __name__ == "__main__":
    sys.exit(main())
