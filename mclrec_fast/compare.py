"""`python -m mclrec_fast.compare`: finished runs side by side.

The same as `mclrec-fast compare`, for where scripts are not on the path.
"""

import sys

from .commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
else:  # imported, this module must not hide the function of its name
    from . import comparison

    sys.modules[__name__] = comparison.compare  # type: ignore[assignment]
