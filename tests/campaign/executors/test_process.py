import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue

import psutil
import pytest

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError, RunError
from retrain_campaign.executors.process import ProcessExecutor
from retrain_campaign.executors.protocol import Ended, Job
from retrain_campaign.plan.campaign import campaign_of
from retrain_campaign.storage.manifest import RunEntry

PATIENCE_S = 60
WAITING = "import sys, time; print('here', flush=True); time.sleep(300)"


@pytest.fixture
def ended():
    return SimpleQueue()


@pytest.fixture
def make_job(tmp_path):
    def make(*command, **environment):
        return Job("a_s1", command, tmp_path, environment, tmp_path / "output.log")

    return make


def entry(**values):
    return RunEntry(
        name="a_s1", condition="a", seed=1, command=[], run_dir="runs/a_s1", max_steps=1, **values
    )


@contextmanager
def started(job):
    """The job's process, which is wholly there since it has said something; ends with the block."""
    with job.output.open("wb") as output:
        process = subprocess.Popen(job.command, cwd=job.directory, stdout=output)
    with process:
        wait_for_output(job)
        try:
            yield process
        finally:
            process.kill()


def wait_for_output(job):
    """Until the worker has said something."""
    for _ in range(PATIENCE_S * 20):
        if job.output.read_bytes():
            return
        signal.sigtimedwait([], 0.05)
    pytest.fail("the worker says nothing")


@pytest.mark.parametrize("code", [0, 1, 130])
def test_the_exit_code_is_reported(ended, make_job, code):
    worker = ProcessExecutor().start(make_job("sh", "-c", f"exit {code}"), ended.put)
    assert ended.get(timeout=PATIENCE_S) == Ended("a_s1", code)
    assert (worker.host, worker.pid is not None) == (socket.gethostname(), True)


def test_what_it_says_is_appended(ended, make_job):
    job = make_job("sh", "-c", "echo $WORD; echo oops >&2", WORD="hello")
    executor = ProcessExecutor()
    for _ in range(2):
        executor.start(job, ended.put)
        ended.get(timeout=PATIENCE_S)
    assert job.output.read_text() == "hello\noops\n" * 2


def test_a_program_that_is_not_there(ended, make_job):
    with pytest.raises(RunError, match="cannot start `no-such-program`"):
        ProcessExecutor().start(make_job("no-such-program"), ended.put)


def test_interrupting_is_ctrl_c_and_killing_is_not(ended, make_job):
    program = f"try:\n    {WAITING}\nexcept KeyboardInterrupt:\n    sys.exit(130)"
    executor = ProcessExecutor()
    for end, code in ((executor.interrupt, 130), (executor.kill, -9)):
        job = make_job(sys.executable, "-c", program)
        job.output.write_bytes(b"")
        executor.start(job, ended.put)
        wait_for_output(job)
        end("a_s1")
        assert ended.get(timeout=PATIENCE_S) == Ended("a_s1", code)
    executor.kill("a_s1")  # which has ended: nothing happens


@pytest.mark.parametrize("noted", [True, False])
def test_a_foreign_process_is_adopted_by_pid_or_by_command(ended, make_job, noted):
    """As after a campaign was killed; the second one was killed before it noted the number."""
    job = make_job(sys.executable, "-c", WAITING)
    with started(job) as stranger:
        known = {"pid": stranger.pid, "pid_started": psutil.Process(stranger.pid).create_time()}
        executor = ProcessExecutor()
        worker = executor.adopt(entry(**(known if noted else {})), job, ended.put)
        assert worker is not None
        assert worker.pid == stranger.pid
        executor.kill("a_s1")
        stranger.wait(PATIENCE_S)
    assert ended.get(timeout=PATIENCE_S) == Ended("a_s1", None)


@pytest.mark.parametrize("other", ["command", "directory"])
def test_the_process_of_a_campaign_that_this_is_a_copy_of_is_left_alone(ended, make_job, other):
    job = make_job(sys.executable, "-c", WAITING)
    copied = replace(job, command=(*job.command, "copy"))
    if other == "directory":
        copied = replace(job, directory=job.directory.parent)
    with started(job) as stranger:
        known = {"pid": stranger.pid, "pid_started": psutil.Process(stranger.pid).create_time()}
        assert ProcessExecutor().adopt(entry(**known), copied, ended.put) is None
        stranger.kill()


def test_a_process_of_the_same_number_that_started_later_is_another_one(ended, make_job):
    own = psutil.Process()
    later = entry(pid=own.pid, pid_started=own.create_time() - 60)
    assert ProcessExecutor().adopt(later, make_job("no-such-program"), ended.put) is None


def test_what_ran_on_another_machine_cannot_be_adopted(ended, make_job):
    own = psutil.Process()
    elsewhere = entry(host="elsewhere", pid=own.pid, pid_started=own.create_time())
    assert ProcessExecutor().adopt(elsewhere, make_job("no-such-program"), ended.put) is None


def test_it_has_no_options(tmp_path):
    config = RunConfig.model_validate({"campaign": {"executor_options": {"gpus": 1}}})
    with pytest.raises(ConfigError, match=r"\[campaign.executor_options\] gpus is an unknown key"):
        ProcessExecutor.from_campaign(campaign_of(config, tmp_path))
