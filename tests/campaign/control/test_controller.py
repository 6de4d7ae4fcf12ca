"""The controller, with an executor whose workers end as a script says."""

import os
import signal
import threading
from pathlib import Path

import pytest

from retrain_backends.config import RunConfig, dump_config
from retrain_backends.errors import RunError
from retrain_campaign.control.controller import Controller
from retrain_campaign.control.workload import workload_of
from retrain_campaign.executors.protocol import Ended, Worker
from retrain_campaign.plan.campaign import campaign_of
from retrain_campaign.plan.capacity import Capacity
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore
from retrain_campaign.storage.open_directory import create_campaign

RULES = [
    {"advantage_mode": "grpo", "transform_mode": "none", "name": "a"},
    {"advantage_mode": "maxrl", "transform_mode": "none", "name": "b"},
]


class Scripted:
    """Each start of a run ends as its script says: an exit code, None if not observed."""

    def __init__(
        self, script=None, adopts=(), retries=False, leaves_nothing=False, adopted_end=None
    ):
        self.script = {name: list(ends) for name, ends in (script or {}).items()}
        self.adopts, self.adopted_end = adopts, adopted_end
        self.retries = retries
        self.leaves_nothing, self.directories = leaves_nothing, {}
        self.started, self.living, self.most, self.killed = [], {}, 0, []

    def start(self, job, on_end):
        end = self.script[job.name].pop(0) if self.script.get(job.name) else 0
        if isinstance(end, Exception):
            raise end
        self.started.append((job.name, dict(job.environment)))
        self.living[job.name] = on_end
        self.most = max(self.most, len(self.living))
        job.output.write_text(f"saying {end}\n")
        self.directories[job.name] = job.output.parent
        if end == "ctrl-c":
            os.kill(os.getpid(), signal.SIGINT)
        elif end != "stays":
            self._end(job.name, end)
        return Worker(host="here", pid=1, pid_started=1.0)

    def adopt(self, entry, job, on_end):
        if entry.name not in self.adopts:
            return None
        self.living[entry.name] = on_end
        if self.adopted_end != "stays":
            self._end(entry.name, self.adopted_end)
        return Worker(host="here", pid=entry.pid)

    def interrupt(self, name):
        if self.script.get("deaf"):
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._end(name, 130)

    def kill(self, name):
        self.killed.append(name)
        self._end(name, -9)

    def close(self):
        self.closed = True

    def _end(self, name, code):
        if code == 0 and name in self.directories and not self.leaves_nothing:
            (self.directories[name] / "final").mkdir()
            (self.directories[name] / "metrics.jsonl").write_text('{"step": 499}\n')
        self.living.pop(name)(Ended(name, code))


class RecordingDisplay:
    """Records all messages and changes."""

    def __init__(self):
        self.lines, self.changes = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def say(self, line):
        self.lines.append(line)

    def changed(self, entry):
        self.changes.append((entry.name, entry.status))

    def refresh(self):
        return None


@pytest.fixture
def conduct(tmp_path):
    """Run a campaign of two conditions under the seeds; (finished, store, display, directory)."""

    def run(
        executor, *, seeds=(1,), capacity=None, before=(), analyse=None, retries=1, configs=None
    ):
        tables = {"campaign": {"seeds": list(seeds), "conditions": RULES, "retries": retries}}
        campaign = campaign_of(RunConfig.model_validate(tables), Path("c.toml"))
        directory = tmp_path / "campaign"
        capacity = capacity or Capacity(workers=1, threads=1)
        with create_campaign(campaign, directory, threads=1) as opened:
            store, display = ManifestStore(directory, opened.manifest), RecordingDisplay()
            for name, values in before:
                store.change(name, **values)
            workload = workload_of(opened, capacity, analyse)
            for name, _ in before:
                config = (configs or {}).get(name, workload.configs[name])
                store.run_dir(name).mkdir()
                (store.run_dir(name) / "config.toml").write_text(dump_config(config))
            finished = Controller(store, workload, executor, display).run()
        return finished, store, display, directory

    return run


def statuses(store):
    return {entry.name: entry.status for entry in store.entries}


def test_every_run_is_started_once_and_noted(conduct):
    executor = Scripted()
    finished, store, display, directory = conduct(executor, seeds=(1, 2))
    names = ["a_s1", "b_s1", "a_s2", "b_s2"]
    assert finished
    assert [name for name, _ in executor.started] == names
    assert display.changes == [(n, s) for n in names for s in ("running", "done")]
    assert read_manifest(directory).runs == store.entries
    assert statuses(store) == dict.fromkeys(names, "done")
    entry = store["a_s1"]
    assert (entry.attempts, entry.exit_code, entry.host, entry.pid) == (1, 0, "here", 1)
    assert entry.started <= entry.ended


def test_the_configuration_is_written_to_the_run_directory(conduct):
    _, store, _, directory = conduct(Scripted())
    assert sorted(path.name for path in (directory / "runs").iterdir()) == ["a_s1", "b_s1"]
    text = (directory / store["a_s1"].run_dir / "config.toml").read_text()
    assert "seed = 1\n" in text
    assert store["a_s1"].command[-2:] == ["--resume", str(directory / "runs/a_s1")]


def test_no_more_at_once_than_there_are_workers(conduct):
    class Slow(Scripted):
        def start(self, job, on_end):
            worker = super().start(job, on_end)
            if len(self.living) == 2 or len(self.started) == 4:
                for name in list(self.living):
                    self._end(name, 0)
            return worker

    executor = Slow({f"{c}_s{s}": ["stays"] for c in "ab" for s in (1, 2)})
    finished, *_ = conduct(executor, seeds=(1, 2), capacity=Capacity(workers=2, threads=1))
    assert (finished, executor.most) == (True, 2)


def test_gpus_come_from_a_pool(conduct):
    executor = Scripted({"a_s1": ["stays"]})
    executor.script["b_s1"] = ["ctrl-c"]
    capacity = Capacity(workers=2, threads=1, gpus=("2", "5"), gpus_each=1)
    _, store, *_ = conduct(executor, capacity=capacity)
    assert [env["CUDA_VISIBLE_DEVICES"] for _, env in executor.started] == ["2", "5"]
    assert store["b_s1"].gpus == ["5"]


def test_a_run_that_died_is_retried_and_the_others_continue(conduct):
    executor = Scripted({"a_s1": [-9, 0]})
    finished, store, display, _ = conduct(executor)
    assert finished
    assert statuses(store) == {"a_s1": "done", "b_s1": "done"}
    assert store["a_s1"].attempts == 2
    assert display.lines == ["a_s1: attempt 1 of 2 ended: killed by SIGKILL: saying -9"]


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (2, 3)])
def test_a_run_that_keeps_dying_has_failed_with_its_last_output(conduct, retries, attempts):
    executor = Scripted({"a_s1": [1] * 9})
    finished, store, _, directory = conduct(executor, retries=retries)
    entry = store["a_s1"]
    assert finished
    assert (entry.status, entry.attempts, entry.exit_code) == ("failed", attempts, 1)
    assert entry.reason == "exit code 1: saying 1"
    assert store["b_s1"].status == "done"
    assert read_manifest(directory).by_name()["a_s1"] == entry


def test_an_executor_that_retries_itself_is_asked_once(conduct):
    _, store, *_ = conduct(Scripted({"a_s1": [1] * 9}, retries=True))
    assert (store["a_s1"].status, store["a_s1"].attempts) == ("failed", 1)


def test_what_cannot_be_started_has_failed(conduct):
    error = RunError("cannot start `python` (no memory)")
    _, store, *_ = conduct(Scripted({"a_s1": [error, error]}))
    assert (store["a_s1"].status, store["a_s1"].reason) == ("failed", str(error))
    assert store["b_s1"].status == "done"


def test_ctrl_c_stops_the_workers_after_their_checkpoint(conduct):
    executor = Scripted({"a_s1": ["stays"], "b_s1": ["ctrl-c"]})
    capacity = Capacity(workers=2, threads=1)
    finished, store, display, _ = conduct(executor, seeds=(1, 2), capacity=capacity)
    assert not finished
    ended = {"a_s1": "stopped", "b_s1": "stopped", "a_s2": "planned", "b_s2": "planned"}
    assert statuses(store) == ended
    assert store["a_s1"].exit_code == 130
    assert "waiting for 2 runs to save a checkpoint" in display.lines[0]


def test_a_second_ctrl_c_kills_them(conduct):
    executor = Scripted({"a_s1": ["ctrl-c"], "deaf": [True]})
    finished, store, *_ = conduct(executor)
    assert (finished, executor.killed) == (False, ["a_s1"])
    assert store["a_s1"].status == "stopped"


@pytest.mark.parametrize("code", [130, 143])
def test_a_run_that_is_interrupted_or_stops_by_itself_is_not_retried(conduct, code):
    finished, store, *_ = conduct(Scripted({"a_s1": [code]}))
    assert finished
    assert (store["a_s1"].status, store["a_s1"].reason) == (
        "stopped",
        f"exit code {code}: saying {code}",
    )


RUNNING = {"status": "running", "pid": 7, "pid_started": 1.0, "attempts": 1}


def test_a_worker_that_is_still_running_is_not_started_twice(conduct):
    executor = Scripted(adopts=["a_s1"])
    finished, _, display, _ = conduct(executor, before=[("a_s1", RUNNING)])
    assert finished
    assert "a_s1: still running, process 7" in display.lines
    # Its exit code is unknown and its files are incomplete, so it is resumed.
    assert [name for name, _ in executor.started] == ["a_s1", "b_s1"]


@pytest.mark.parametrize("code", [None, 0])
def test_an_adopted_worker_may_have_been_started_for_fewer_steps(conduct, code):
    executor = Scripted(adopts=["a_s1"], adopted_end=code)
    _, store, *_ = conduct(executor, before=[("a_s1", RUNNING)])
    assert [name for name, _ in executor.started] == ["a_s1", "b_s1"]
    assert statuses(store) == {"a_s1": "done", "b_s1": "done"}


def test_an_adopted_worker_with_earlier_settings_is_interrupted_and_resumed(conduct):
    executor = Scripted(adopts=["a_s1"], adopted_end="stays")
    earlier = RunConfig.model_validate({"training": {"save_every": 7}})
    _, store, display, _ = conduct(executor, before=[("a_s1", RUNNING)], configs={"a_s1": earlier})
    assert "a_s1: saves a checkpoint, and is resumed with changed settings" in display.lines
    assert [name for name, _ in executor.started] == ["a_s1", "b_s1"]
    assert statuses(store) == {"a_s1": "done", "b_s1": "done"}


def test_a_run_whose_worker_is_gone_is_resumed(conduct):
    executor = Scripted()
    _, store, *_ = conduct(executor, before=[("a_s1", RUNNING), ("b_s1", {"status": "done"})])
    assert [name for name, _ in executor.started] == ["a_s1"]
    assert statuses(store) == {"a_s1": "done", "b_s1": "done"}


def test_the_first_adapter_is_analysed_once(conduct):
    asked = []

    def analyse(adapter):
        asked.append(adapter)
        return {"recommended_rank": 32}, "rank 32"

    _, store, display, directory = conduct(Scripted(), analyse=analyse)
    assert asked == [store["a_s1"].adapter] == ["runs/a_s1/final"]
    assert "rank 32" in display.lines
    found = read_manifest(directory).squeeze
    assert found["recommended_rank"] == 32
    assert found["run"] == "a_s1"


def test_an_analysis_that_fails_is_reported_and_stops_nothing(conduct):
    def analyse(adapter):
        raise OSError("no such adapter")

    finished, store, display, directory = conduct(Scripted(), analyse=analyse)
    assert finished
    assert set(statuses(store).values()) == {"done"}
    assert any("could not be analysed: OSError: no such adapter" in line for line in display.lines)
    assert read_manifest(directory).squeeze["error"] == "OSError: no such adapter"


def test_ctrl_c_cancels_an_analysis(conduct):
    stopped = threading.Event()

    def analyse(adapter):
        os.kill(os.getpid(), signal.SIGINT)
        stopped.wait(60)

    executor, before = Scripted(), [("b_s1", {"status": "done", "ended": "now"})]
    finished, store, display, directory = conduct(executor, analyse=analyse, before=before)
    stopped.set()
    assert not finished
    assert store["a_s1"].status == "done"
    assert "interrupted: the analysis of an adapter was cancelled" in display.lines
    assert read_manifest(directory).squeeze is None


@pytest.mark.parametrize(("left", "finished"), [("planned", False), ("done", True)])
def test_ctrl_c_when_all_is_done_has_interrupted_nothing(conduct, left, finished):
    executor = Scripted({"a_s1": ["ctrl-c"]})
    executor.interrupt = lambda name: executor._end(name, 0)
    assert conduct(executor, before=[("b_s1", {"status": left})])[0] is finished


def test_a_run_that_reports_success_without_results_has_failed(conduct):
    finished, store, display, _ = conduct(Scripted(leaves_nothing=True))
    assert finished
    assert set(statuses(store).values()) == {"failed"}
    reason = "exit code 0, but metrics.jsonl has 0 of 500 steps"
    assert store["a_s1"].reason == reason
    assert f"a_s1: attempt 1 of 2 ended: {reason}" in display.lines
