"""`python -m mclrec_fast.recommend`: the best next items, in the ids of a run's data.

The same as `mclrec-fast recommend`, for where scripts are not on the path.
"""

import sys

from .commands.recommend import main

if __name__ == "__main__":
    sys.exit(main())
