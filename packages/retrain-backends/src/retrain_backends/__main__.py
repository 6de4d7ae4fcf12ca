"""`python -m retrain_backends [run.toml] [--flag value]...`: one run, without `retrain`.

Exit codes: 0 done, 1 the run failed, 2 usage or configuration, 130 interrupted.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from retrain_backends.config import load_command_line
from retrain_backends.errors import RetrainError
from retrain_backends.train import train


def main(arguments: Sequence[str]) -> int:
    """Do the run that the arguments ask for, and return the exit code."""
    try:
        train(load_command_line(arguments))
    except RetrainError as error:
        errors = Console(stderr=True, highlight=False)
        for problem in str(error).splitlines():
            errors.print(f"error: {problem}", markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:  # while the run was being built
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
