"""Become a command that dies with a process, and that Ctrl-C reaches.

    python -m retrain_campaign.executors.launch PARENT COMMAND...

A cluster may kill its own process without a chance to pass anything on, and starts it with signals
blocked that a run needs.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # of Linux


def main(arguments: Sequence[str]) -> None:
    """Replace this process by the command."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it has died already
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
