"""No process of a reward survives it, however reward, fork server or run end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrain_backends.types import Verdict

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux adopts orphans")

# A reward that starts processes which nobody waits for, and writes down their ids.
HOSTILE = """
import os, signal, subprocess, sys, time
from pathlib import Path

def note(name):
    with open("pids", "a") as file:
        file.write(f"{name} {os.getpid()}\\n")

def sleep():
    note("sleeper")
    while True:
        time.sleep(1000)

def daemon():
    \"\"\"Fork twice, with a session of its own.\"\"\"
    if os.fork():
        os.wait()
        return
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    sleep()

def session():
    if not os.fork():
        os.setsid()
        sleep()

def score(response, reference):
    start, _, then = response.partition(" ")
    count = len(Path("pids").read_text().split()) if Path("pids").exists() else 0
    {"daemon": daemon, "session": session}[start]()
    while not Path("pids").exists() or len(Path("pids").read_text().split()) == count:
        time.sleep(0.01)
    note("worker")
    if then == "hang":
        time.sleep(1000)
    elif then == "kill server":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    elif then == "stop server":
        os.kill(os.getppid(), signal.SIGSTOP)
    elif then == "exit":
        os._exit(1)
    return 1.0
"""

# Detaches processes while it is loaded, which never ends.
LOADING = """
import time
import hostile

hostile.daemon()
hostile.session()
time.sleep(1000)
"""

RUN = """
import sys
from retrain_backends.config import RewardConfig
from retrain_backends.rewards import build_reward
from retrain_backends.types import Example, Rollout

reward = build_reward(RewardConfig(
    type="custom", custom_module=sys.argv[1], max_failure_rate=1.0, workers=2, timeout_s=1000.0
))
reward.score([Rollout(Example("q", "1"), text) for text in sys.argv[2:]])
"""


@pytest.fixture
def here(tmp_path):
    (tmp_path / "hostile.py").write_text(HOSTILE)
    (tmp_path / "loading.py").write_text(LOADING)
    here = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(here)
    for pid in pids(tmp_path):
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def pids(directory):
    file = directory / "pids"
    return [int(line.split()[1]) for line in file.read_text().splitlines()] if file.exists() else []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


RESPONSES = [f"{start} {then}" for start in ("daemon", "session") for then in ("", "hang", "exit")]


@pytest.mark.parametrize("responses", [RESPONSES, ["daemon kill server"], ["daemon stop server"]])
def test_nothing_survives_the_end_of_a_reward(reward, to_items, here, responses):
    service = reward(type="custom", custom_module="hostile", workers=2, timeout_s=5.0)
    service.score(to_items(*responses))
    assert len(pids(here)) == 2 * len(responses)
    service.close()
    wait_until(lambda: not any(map(alive, pids(here))))


def test_what_a_worker_started_ends_with_it(reward, to_items, here):
    service = reward(type="custom", custom_module="hostile", workers=1, timeout_s=5.0)
    service.score(to_items("session hang"))
    wait_until(lambda: not any(map(alive, pids(here))))
    assert service.score(to_items("session")) == [Verdict(1.0)]


@pytest.mark.parametrize(
    ("module", "then", "count"),
    [("hostile", "hang", 4), ("hostile", "stop server", 4), ("loading", "", 2)],
)
def test_nothing_survives_a_run_that_is_killed(here, module, then, count):
    command = [sys.executable, "-c", RUN, module, f"daemon {then}", f"session {then}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        wait_until(lambda: len(pids(here)) == count)
        run.kill()
    wait_until(lambda: not any(map(alive, pids(here))))
