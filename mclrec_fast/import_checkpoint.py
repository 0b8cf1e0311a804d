"""`python -m mclrec_fast.import_checkpoint`: makes a run of the authors' weights.

The same as `mclrec-fast import-checkpoint`, for where scripts are not on the path.
"""

import sys

from .commands.import_checkpoint import main

if __name__ == "__main__":
    sys.exit(main())
