"""`python -m mclrec_fast.evaluate`: ranks a run's held-out targets again.

The same as `mclrec-fast evaluate`, for where scripts are not on the path.
"""

import sys

from .commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
else:  # imported, this module must not hide the function of its name
    from . import api

    sys.modules[__name__] = api.evaluate  # type: ignore[assignment]
