"""`python -m mclrec_fast.train`: trains a model on a log, or goes on with a run.

The same as `mclrec-fast train`, for where scripts are not on the path.
"""

import sys

from .commands.train import main

if __name__ == "__main__":
    sys.exit(main())
