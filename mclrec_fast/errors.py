"""The errors a user can meet, and nothing else.

`InputError` is the user's to mend (arguments, configuration, data); command lines turn it into
exit code 2. `RunError` is a failure of the run itself (a loss that is not finite, a full disk) and
becomes exit code 1. Both texts name the place and the remedy.
"""


class MclrecError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        said_by_another: one of several processes says it, not this one.
    """

    said_by_another = False


class InputError(MclrecError):
    """Bad arguments, configuration or data: the text says where and what to do (exit code 2)."""


class RunError(MclrecError):
    """The run failed after it had started; the last good state is kept (exit code 1)."""
