"""`python -m retrain_backends [run.toml] [--flag value]...`: one run, without `retrain`.

Exit codes: 0 done, 1 the run failed, 2 usage or configuration, 130 interrupted, 143
ended by SIGTERM.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from retrain_backends.config import load_command_line
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ConfigError, RetrainError, error_of_file


def main(arguments: Sequence[str]) -> int:
    """Train as the arguments say, and return the exit code."""
    try:
        config = load_command_line(arguments)
        if config.squeeze is not None:
            raise ConfigError(
                "[squeeze]: this command only trains; remove the table, and analyse the adapter "
                "with `retrain` or `python -m retrain_squeeze`"
            )
        # By name, so that a mistake in the file is reported before the slow imports.
        load_object("retrain_backends.train:train")(config)
    except (RetrainError, OSError) as error:
        shown = error_of_file(error) if isinstance(error, OSError) else error
        errors = Console(stderr=True, highlight=False)
        for problem in shown.problems:
            errors.print(f"error: {problem}", markup=False, soft_wrap=True)
        return shown.exit_code
    except KeyboardInterrupt:  # during imports
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
