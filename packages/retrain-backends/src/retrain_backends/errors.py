"""The exceptions that retrain raises.

    RetrainError
    ├── ConfigError        the TOML file, a flag or an environment variable is wrong      exit 2
    │   └── NotAvailableError   a valid setting that this version does not support yet    exit 2
    ├── PluginError        the name of a plugin does not resolve to a usable object       exit 2
    ├── DataError          the data set is missing, empty or lacks a field                exit 2
    ├── ModelError         the model or its tokenizer cannot be loaded                    exit 2
    └── RunError           a run failed after it had started                              exit 1
        └── InterruptedRunError  interrupted by Ctrl-C, with everything trained saved     exit 130
            ├── TerminatedRunError  the same by SIGTERM, as schedulers send it            exit 143
            └── StoppedRunError  ended by its backend, as when a budget is spent          exit 130

The message is one line that says what is wrong and, where there is one, how to fix it. Only the
command line catches these exceptions: it prints the message and exits with `exit_code`. An
`OSError` that reaches it is shown in the same way (`error_of_file`).
"""

import errno

_LONGEST_LINE = 1000
_END_SHOWN = 300
# What is wrong with the name of a file itself, and not with its disk or its permissions.
_WRONG_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}


class RetrainError(Exception):
    """Base class of retrain's exceptions; `str(error)` is the line shown to the user.

    Control characters are escaped, and a line of more than 1,000 characters is shortened.
    """

    exit_code = 1

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(one_line, problems))
        super().__init__("\n".join(self.problems))


class ConfigError(RetrainError):
    """The configuration is wrong; `problems` has one line for each mistake."""

    exit_code = 2


class NotAvailableError(ConfigError):
    """A valid setting that this version does not support yet."""


class PluginError(RetrainError):
    """The name of a plugin does not resolve to a usable object."""

    exit_code = 2


class DataError(RetrainError):
    """The data set is missing, empty, or lacks a field."""

    exit_code = 2


class ModelError(RetrainError):
    """The model or its tokenizer cannot be loaded."""

    exit_code = 2


class RunError(RetrainError):
    """A run failed after it had started."""


class InterruptedRunError(RunError):
    """Ctrl-C interrupted the run; the message names the directory of its adapter."""

    exit_code = 130


class TerminatedRunError(InterruptedRunError):
    """SIGTERM ended the run; the message names the directory of its adapter."""

    exit_code = 143


class StoppedRunError(InterruptedRunError):
    """The backend ended the run, as when a budget is spent; the message gives the reason."""


def error_of_file(error: OSError) -> RetrainError:
    """An error of the operating system, usually about a file, as one of retrain's."""
    if not error.filename:
        return RunError(describe(error))
    kind = ConfigError if error.errno in _WRONG_NAME else RunError
    return kind(f"{error.filename}: cannot be used ({error.strerror})")


def one_line(text: str) -> str:
    """The text with control characters escaped, without its middle if it is too long to read."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    if len(shown) <= _LONGEST_LINE:
        return shown
    return f"{shown[: _LONGEST_LINE - _END_SHOWN]} ... {shown[-_END_SHOWN:]}"


def describe(error: BaseException, limit: int = 300) -> str:
    """An exception as one line: its type, and at most `limit` characters of its message."""
    # A border: `__str__` of an exception may be user code that fails.
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001
        text = ""
    return f"{type(error).__name__}: {text[:limit]}" if text else type(error).__name__
