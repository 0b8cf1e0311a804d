"""`python -m mclrec_fast.similar_items`: the items nearest to given ones.

The same as `mclrec-fast similar-items`, for where scripts are not on the path.
"""

import sys

from .commands.similar_items import main

if __name__ == "__main__":
    sys.exit(main())
