"""Starts the fork server, and leaves no process behind when the run or the fork server ends.

The supervisor stands between the two, and runs no reward code. On Linux it adopts each descendant
whose parent has ended, also one in a session of its own, so it can kill them all. It does so when
the fork server ends, or when its standard input is closed, as by the end of the run, whatever ended
it. Elsewhere the fork server kills its workers, and processes that left a worker's process group
survive.
"""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

from retrain_backends.rewards.descendants import (
    adopt_orphans,
    descendants_of,
    die_with_parent,
    kill,
)
from retrain_backends.rewards.fork_server import serve_forks

_GRACE_MS = 1000  # for the fork server to end by itself


def main() -> None:
    """Fork the fork server, wait for the end, and exit with the server's status."""
    settings = json.loads(sys.argv[2])
    adopt_orphans()
    server = os.fork()
    if not server:
        try:
            die_with_parent()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            serve_forks(settings)
        finally:
            os._exit(0)
    os.close(settings["control"])
    status = _watch(server)
    kill(server)
    _kill_descendants()
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def _watch(server: int) -> int:
    """Wait until the run or the fork server ends; the server's status, 0 if it is still there."""
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    events = select.poll()
    events.register(0)
    events.register(woken, select.POLLIN)
    limit_ms = None
    while True:
        for pid, status in _ended_children():
            if pid == server:
                return status
        ready = [descriptor for descriptor, _ in events.poll(limit_ms)]
        if not ready:
            return 0
        if 0 in ready:
            events.unregister(0)
            limit_ms = _GRACE_MS
        if woken.fileno() in ready:
            woken.recv(4096)


def _ended_children() -> Iterator[tuple[int, int]]:
    """Process and exit status of the children that have ended, adopted ones among them."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])


def _kill_descendants() -> None:
    """Kill until there are none: those that a killed process forked meanwhile become children."""
    while killed := [pid for pid in descendants_of(os.getpid()) if kill(pid)]:
        for pid in killed:
            with suppress(ChildProcessError):  # its parent has not ended yet
                os.waitpid(pid, 0)
