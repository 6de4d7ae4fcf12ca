"""Every error that retrain_squeeze raises on purpose.

    SqueezeError
    ├── SqueezeConfigError    the TOML file, a flag or an argument is wrong               exit 2
    │   └── MissingExtraError what was asked for needs a package that is not installed    exit 2
    ├── AdapterError          the adapter is missing, damaged, or cannot be read safely   exit 2
    └── DownloadError         an adapter could not be fetched from a service              exit 1

Each carries one line (SqueezeConfigError one for each problem) that says what is wrong and, where
one exists, the fix. They are caught at the command line's top only, which prints them and exits
with `exit_code`.
"""


class SqueezeError(Exception):
    """Root of the errors of retrain_squeeze; `str(error)` is what the user is shown."""

    exit_code = 1


class SqueezeConfigError(SqueezeError):
    """What was asked for is wrong; holds every problem found, one line each."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class MissingExtraError(SqueezeConfigError):
    """A package of an optional extra is not installed; the line says what to install."""


class AdapterError(SqueezeError):
    """The adapter is missing, damaged, or cannot be read safely."""

    exit_code = 2


class DownloadError(SqueezeError):
    """An adapter could not be fetched from a service."""


def describe(error: BaseException, limit: int = 300) -> str:
    """An exception as one line: its type, and what it says in at most `limit` characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:limit]}" if text else type(error).__name__
