import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from retrain_campaign.executors.protocol import Job
from retrain_campaign.executors.remote import Mailbox, RemoteRun

PATIENCE_S = 60
WAITING = """\
import sys, time
try:
    print("here", flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def make_job(tmp_path):
    def make(program, **environment):
        # The interpreter of the machine that asked, which the other machine may not have.
        command = ("no-such-python", "-c", program)
        return Job("a", command, tmp_path, environment, tmp_path / "output.log")

    return make


def wait_for(condition):
    for _ in range(PATIENCE_S * 20):
        if condition():
            return
        signal.sigtimedwait([], 0.05)
    pytest.fail("it never came to be")


def test_it_does_the_job_and_returns_the_exit_code(make_job, tmp_path):
    job = make_job("import os; print(os.environ['WORD']); raise SystemExit(3)", WORD="hello")
    assert RemoteRun(job)() == 3
    assert job.output.read_text() == "hello\n"
    worker = Mailbox(tmp_path).worker("7")
    assert worker is not None
    assert (worker.job, worker.pid is not None) == ("7", True)


@pytest.mark.parametrize(("word", "code"), [("interrupt", 130), ("kill", -9)])
def test_it_is_stopped_by_a_word_in_the_directory(make_job, tmp_path, word, code):
    job, mailbox, ended = make_job(WAITING), Mailbox(tmp_path), []
    thread = threading.Thread(target=lambda: ended.append(RemoteRun(job)()))
    thread.start()
    wait_for(lambda: job.output.exists() and job.output.read_text())
    getattr(mailbox, word)()
    thread.join(PATIENCE_S)
    assert ended == [code]


def test_what_is_stopped_before_it_begins_does_not_begin(make_job, tmp_path):
    Mailbox(tmp_path).interrupt()
    job = make_job("print('never')")
    assert RemoteRun(job)() == 130
    assert not job.output.exists()
    assert Mailbox(tmp_path).worker("") is None
    Mailbox(tmp_path).clear()
    assert RemoteRun(job)() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a signal")
def test_a_worker_dies_with_the_process_of_the_cluster(tmp_path):
    program = f"""\
import subprocess, sys, os, time
launch = [sys.executable, "-m", "retrain_campaign.executors.launch", str(os.getpid())]
child = subprocess.Popen([*launch, sys.executable, "-c", {WAITING!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(300)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as cluster:
        assert cluster.stdout is not None
        worker = int(cluster.stdout.readline())
        assert psutil.pid_exists(worker)
        cluster.kill()
    wait_for(lambda: not _runs(worker))


def test_a_worker_whose_parent_has_died_already_does_not_begin(tmp_path):
    launch = [sys.executable, "-m", "retrain_campaign.executors.launch", str(os.getpid() + 1)]
    done = subprocess.run([*launch, "touch", str(tmp_path / "begun")], check=False)
    assert done.returncode == 0
    assert not (tmp_path / "begun").exists()


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
