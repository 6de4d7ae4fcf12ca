"""Servers that others wrote, in environments of their own, for tests against the real thing.

The environments are made once, in the user's cache directory, from what uv has in its own cache.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from filelock import FileLock
from uv import find_uv_bin

INSTALLING_S = 1200


def cache_directory() -> Path:
    """Where environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "retrain-tests"


def environment(
    name: str,
    requirements: Sequence[str],
    *depends_on: str,
    date: str,
    finish: Callable[[Path], object] = lambda _: None,
) -> Path:
    """The Python of a virtual environment with these requirements, made unless it is there.

    Keyed by all that it depends on, and renamed when it is complete, so that one that is there is
    whole; a second process waits for the first.

    Args:
      name: of its directory.
      requirements: what is installed.
      depends_on: texts with which it changes.
      date: no release after it is installed.
      finish: changes the environment once everything is installed.
    """
    key = "\n".join([sys.version, date, *requirements, *depends_on])
    place = cache_directory() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock", timeout=INSTALLING_S):
        if not place.exists():
            partial = place.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            base = getattr(sys, "_base_executable", sys.executable)
            uv("venv", "--relocatable", "--python", base, str(partial))
            dated = ["--exclude-newer", date, "--no-config", "--no-sources"]
            local = os.environ.get("PIP_FIND_LINKS", "").split()
            links = [part for link in local for part in ("--find-links", link)]
            python = str(partial / "bin" / "python")
            uv("pip", "install", "--python", python, *links, *dated, *requirements)
            finish(partial)
            partial.rename(place)
    return place / "bin" / "python"


def uv(*arguments: str) -> None:
    """Run uv; an error is shown."""
    done = subprocess.run(
        [find_uv_bin(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALLING_S,
    )
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(
    command: Sequence[str | Path],
    health: str,
    directory: Path,
    settings: Mapping[str, str],
    healthy_s: float,
) -> Iterator[Path]:
    """A server process with its children, once it answers; gives its log.

    Args:
      command: what is started.
      health: the address that answers when the server is ready.
      directory: where it runs; its log is there too.
      settings: environment variables, besides those of this process.
      healthy_s: longest wait.
    """
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(process, health, log, healthy_s)
        yield log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(
    process: subprocess.Popen[bytes], health: str, log: Path, healthy_s: float
) -> None:
    deadline = time.monotonic() + healthy_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(URLError, OSError):
            urlopen(health, timeout=5).close()
            return
        time.sleep(0.2)
    tail = log.read_text("utf-8", errors="replace")[-4000:]
    why = "does not answer" if process.poll() is None else f"ended with {process.poll()}"
    raise AssertionError(
        f"the server at {health} {why} within {healthy_s} s; its log ends:\n{tail}"
    )
