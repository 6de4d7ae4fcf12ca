"""A fork server: a program that loads the reward code once and forks worker processes.

It runs no reward code after loading, so it always answers: a worker is forked, or killed and
replaced, within milliseconds, though loading the code takes seconds. It starts as a new
interpreter, so neither torch nor a thread of the run is in it. `supervisor.py` is its parent.

    request: a socket     -> reply: {"pid": 17}, a new worker that serves over it
    request: b"end 17"    -> reply: {"status": -9}, after killing it
    closed:  all workers are killed, and the program ends
"""

import json
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from retrain_backends.errors import describe
from retrain_backends.rewards.descendants import descendants_of, die_with_parent, kill
from retrain_backends.rewards.worker import Judge, ResourceLimits, serve


def serve_forks(settings: Mapping[str, Any]) -> None:
    """Load, send `{"ready": true}` or `{"error": ...}`, and answer requests until the run ends."""
    control = socket.socket(fileno=settings["control"])
    control.set_inheritable(False)
    # A border: the loaded code may be the user's own, and may call `sys.exit`.
    try:
        module, _, attribute = settings["load"].partition(":")
        judge = getattr(import_module(module), attribute)(**settings["arguments"])
    except BaseException as error:  # noqa: BLE001
        _send(control, {"error": describe(error)})
        return
    _send(control, {"ready": True})
    limits = ResourceLimits(settings["timeout_s"], settings["memory_mb"])
    workers: set[int] = set()
    with suppress(OSError):  # the run has ended
        while (request := socket.recv_fds(control, 64, 1))[0]:
            message, channels, _, _ = request
            if channels:
                workers.add(pid := _fork(control, channels[0], judge, limits))
                _send(control, {"pid": pid})
            else:
                pid = int(message.split()[1])
                workers.discard(pid)
                _send(control, {"status": _end(pid)})
    for pid in workers:
        _end(pid)


def _fork(control: socket.socket, channel: int, judge: Judge, limits: ResourceLimits) -> int:
    pid = os.fork()
    if pid:
        os.close(channel)
        return pid
    try:
        die_with_parent()
        os.setsid()  # so that its own children are killed with it
        control.close()
        with socket.socket(fileno=channel) as connection:
            connection.set_inheritable(False)
            serve(connection, judge, limits)
    finally:
        os._exit(0)


def _end(pid: int) -> int:
    """Kill a worker and its descendants; its exit status, or minus the signal's number."""
    below = descendants_of(pid)
    # A worker that has ended by itself keeps its status, since it has not been waited for.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for process in (pid, *below):
        kill(process)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _send(control: socket.socket, reply: Mapping[str, Any]) -> None:
    control.sendall(json.dumps(reply).encode() + b"\n")
