"""Every error that retrain raises on purpose.

    RetrainError
    ├── ConfigError        the TOML file, a flag or an environment variable is wrong      exit 2
    │   └── NotAvailableError   a valid setting that this version cannot honour yet       exit 2
    ├── PluginError        a plugin name does not lead to a usable object                 exit 2
    ├── DataError          the data set is missing, empty or lacks a field                exit 2
    ├── ModelError         the model or its tokenizer cannot be loaded                    exit 2
    └── RunError           a run that had started could not go on                         exit 1
        └── InterruptedRunError  Ctrl-C; what had been trained is saved                   exit 130
            └── StoppedRunError  the same, ended by its backend: a budget is spent        exit 130

Each carries one line that says what is wrong and, where one exists, the fix. They are caught at
the command line's top only, which prints the line and exits with `exit_code`.
"""


class RetrainError(Exception):
    """Root of retrain's errors; `str(error)` is the line shown to the user."""

    exit_code = 1


class ConfigError(RetrainError):
    """The configuration is wrong; holds every problem found, one line each."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class NotAvailableError(ConfigError):
    """A valid setting that this version cannot honour yet."""


class PluginError(RetrainError):
    """A plugin name does not lead to a usable object."""

    exit_code = 2


class DataError(RetrainError):
    """The data set is missing, empty, or lacks a field."""

    exit_code = 2


class ModelError(RetrainError):
    """The model or its tokenizer cannot be loaded."""

    exit_code = 2


class RunError(RetrainError):
    """A run that had started could not go on."""


class InterruptedRunError(RunError):
    """Ctrl-C stopped the run; the line says where its adapter is."""

    exit_code = 130


class StoppedRunError(InterruptedRunError):
    """The backend asked the run to end, as when a budget is spent; the line says why."""


def describe(error: BaseException, limit: int = 300) -> str:
    """An exception as one line: its type, and what it says in at most `limit` characters."""
    # A border: an exception of the user's own may fail to say what it is.
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001
        text = ""
    return f"{type(error).__name__}: {text[:limit]}" if text else type(error).__name__
