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

_LONGEST_LINE = 1000


class SqueezeError(Exception):
    """Base class of the exceptions of retrain_squeeze; `str(error)` is shown to the user.

    `problems` has one line for each problem, with control characters escaped.
    """

    exit_code = 1

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(_one_line, problems))
        super().__init__("\n".join(self.problems))


class SqueezeConfigError(SqueezeError):
    """A setting or an argument is wrong."""

    exit_code = 2


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


def _one_line(text: str) -> str:
    """The text with control characters escaped, shortened if it is too long to read."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    return shown if len(shown) <= _LONGEST_LINE else f"{shown[:_LONGEST_LINE]} ..."
