"""`python -m mclrec_fast.export`: item vectors or the model as a file for other programs.

The same as `mclrec-fast export`, for where scripts are not on the path.
"""

import sys

from .commands.export import main

if __name__ == "__main__":
    sys.exit(main())
