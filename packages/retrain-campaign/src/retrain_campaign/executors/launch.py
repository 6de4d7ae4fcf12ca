"""Replaces this process by a command that ends with its parent and that SIGINT reaches.

    python -m retrain_campaign.executors.launch PARENT COMMAND...

A cluster may kill its own process before that can stop the command, and may start it with signals
blocked that a run needs.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h> of Linux


def main(arguments: Sequence[str]) -> None:
    """Replace this process by the command."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it is gone already
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
