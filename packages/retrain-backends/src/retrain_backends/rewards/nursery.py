"""The program that makes processes which judge: it loads the judging code once, and forks.

It never judges itself, so it always answers: a process that judges is made, or killed and
replaced, within milliseconds, though loading the code takes seconds. It starts as a new
interpreter, so neither torch nor a thread of the run is in it.

    asked:    a socket            -> answered: {"pid": 17}, a new process that judges over it
    asked:    b"end 17"           -> answered: {"status": -9}, having killed it
    closed:   all processes are killed, and the program ends
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from retrain_backends.errors import describe
from retrain_backends.rewards.worker import Judge, Limits, serve


def main() -> None:
    """Load, say `{"ready": true}` or `{"error": "why not"}`, and answer until the run is gone."""
    settings = json.loads(sys.argv[2])
    control = socket.socket(fileno=settings["control"])
    control.set_inheritable(False)
    # A border: what is loaded may be the user's own, and may try to leave.
    try:
        module, _, attribute = settings["load"].partition(":")
        judge = getattr(import_module(module), attribute)(**settings["arguments"])
    except BaseException as error:  # noqa: BLE001
        _send(control, {"error": describe(error)})
        return
    _send(control, {"ready": True})
    limits = Limits(settings["timeout_s"], settings["memory_mb"])
    made: set[int] = set()
    with suppress(OSError):  # nobody is there to be answered
        while (request := socket.recv_fds(control, 64, 1))[0]:
            asked, channels, _, _ = request
            if channels:
                made.add(pid := _fork(control, channels[0], judge, limits))
                _send(control, {"pid": pid})
            else:
                pid = int(asked.split()[1])
                made.discard(pid)
                _send(control, {"status": _end(pid)})
    for pid in made:
        _end(pid)


def _fork(control: socket.socket, channel: int, judge: Judge, limits: Limits) -> int:
    pid = os.fork()
    if pid:
        os.close(channel)
        return pid
    try:
        os.setsid()  # what it starts shall die with it
        control.close()
        with socket.socket(fileno=channel) as connection:
            connection.set_inheritable(False)
            serve(connection, judge, limits)
    finally:
        os._exit(0)


def _end(pid: int) -> int:
    """Kill a process and all that it started; its exit status, or minus the signal's number."""
    # One that has ended by itself keeps its status: it was not waited for yet.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _send(control: socket.socket, reply: Mapping[str, Any]) -> None:
    control.sendall(json.dumps(reply).encode() + b"\n")
