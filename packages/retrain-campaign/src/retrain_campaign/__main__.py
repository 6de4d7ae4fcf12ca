"""`python -m retrain_campaign`: the command `retrain campaign`.

Exit codes: 0 done, 1 a run failed, 2 usage or configuration, 130 interrupted.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from retrain_backends.config import read_arguments
from retrain_backends.errors import RetrainError, error_of_file
from retrain_campaign.arguments import OWN_FLAGS
from retrain_campaign.command import main as campaign


def main(arguments: Sequence[str]) -> int:
    """Run the campaign that the arguments describe, and return the exit code."""
    try:
        return campaign(read_arguments(arguments, OWN_FLAGS))
    except (RetrainError, OSError) as error:
        shown = error_of_file(error) if isinstance(error, OSError) else error
        errors = Console(stderr=True, highlight=False)
        for problem in shown.problems:
            errors.print(f"error: {problem}", markup=False, soft_wrap=True)
        return shown.exit_code
    except KeyboardInterrupt:  # before the first run
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
