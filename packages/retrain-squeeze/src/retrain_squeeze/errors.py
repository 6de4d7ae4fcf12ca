"""The exceptions of retrain_squeeze.

    SqueezeError
    ├── SqueezeConfigError    a setting or an argument is wrong                           exit 2
    │   └── MissingExtraError a package of an optional extra is not installed             exit 2
    ├── AdapterError          the adapter is missing, damaged, or cannot be read safely   exit 2
    └── DownloadError         an adapter could not be downloaded from a service           exit 1

The message is one line (SqueezeConfigError: one line for each problem) with what is wrong and how
to fix it. Only the entry points of the command line catch these errors; they print the message and
exit with `exit_code`.
"""


class SqueezeError(Exception):
    """Base class of the exceptions of retrain_squeeze; `str(error)` is shown to the user."""

    exit_code = 1


class SqueezeConfigError(SqueezeError):
    """A setting or an argument is wrong; `problems` has one line for each problem."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class MissingExtraError(SqueezeConfigError):
    """A package of an optional extra is not installed; the message names the extra."""


class AdapterError(SqueezeError):
    """The adapter is missing, damaged, or cannot be read safely."""

    exit_code = 2


class DownloadError(SqueezeError):
    """An adapter could not be downloaded from a service."""


def describe(error: BaseException, limit: int = 300) -> str:
    """An exception as one line: its type, and its message cut to `limit` characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:limit]}" if text else type(error).__name__
