"""`python -m retrain_squeeze PATH [--flag value]...`: an analysis, without `retrain`.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from retrain_squeeze.command import read_command_line
from retrain_squeeze.errors import SqueezeError
from retrain_squeeze.extras import load_part


def main(arguments: Sequence[str]) -> int:
    """Do the analysis that the arguments ask for, and return the exit code."""
    try:
        request = read_command_line(arguments, "python -m retrain_squeeze")
        # By name, so that a mistake in the file is told before the slow imports.
        run_squeeze = load_part("retrain_squeeze.run:run_squeeze", "this command")
        run_squeeze(request.job, as_json=request.as_json)
    except SqueezeError as error:
        errors = Console(stderr=True, highlight=False)
        for problem in str(error).splitlines():
            errors.print(f"error: {problem}", markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
