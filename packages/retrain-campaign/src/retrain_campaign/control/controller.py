"""Starts the planned runs of a campaign, retries those that died, and stops on request.

All events arrive through one queue, and each is in the manifest before the next is handled.
"""

import contextlib
from collections import deque
from dataclasses import replace
from time import monotonic
from typing import Any

from retrain_backends.errors import RunError
from retrain_campaign.control.adapter_analysis import analyse_in_thread
from retrain_campaign.control.event_queue import AnalysisEnded, Event, EventQueue, Interrupted
from retrain_campaign.control.workload import Workload
from retrain_campaign.display.protocol import Display
from retrain_campaign.executors.protocol import INTERRUPTED_CODES, Ended, Executor, Started, Worker
from retrain_campaign.plan.capacity import GpuPool
from retrain_campaign.storage.manifest import BEFORE_START, RunEntry
from retrain_campaign.storage.manifest_store import ManifestStore, now_utc
from retrain_campaign.storage.run_results import (
    adapter_of,
    failure_reason,
    final_metrics,
    is_complete,
)
from retrain_campaign.storage.run_state import missing_results

_TICK_S = 0.5
_HEARTBEAT_S = 5.0
_STOP_TIMEOUT_S = 600.0  # for a step and a checkpoint


class Controller:
    """Runs the planned runs of a manifest."""

    def __init__(
        self, store: ManifestStore, workload: Workload, executor: Executor, display: Display
    ) -> None:
        self._store = store
        self._workload = workload
        self._executor = executor
        self._display = display
        self._events = EventQueue()
        self._gpus = GpuPool(workload.capacity.gpus, workload.capacity.gpus_each)
        self._waiting: deque[str] = deque()
        self._running: set[str] = set()
        self._adopted: set[str] = set()
        self._next_start = 0.0
        self._next_heartbeat = 0.0
        self._next_tick = 0.0
        self._stopped_at: float | None = None
        self._analysing = False

    def run(self) -> bool:
        """Run everything that is planned; False if it was interrupted before that."""
        with self._events.with_signals(), contextlib.closing(self._executor):
            self._adopt_or_queue()
            self._analyse_first_adapter()
            while self._running or (self._is_pending() and not self._stopping):
                self._start_due()
                self._handle(self._events.take(self._timeout_s()))
                self._tick()
        self._store.write()
        if self._analysing:
            self._display.say("interrupted: the analysis of an adapter was cancelled")
        undone = any(entry.status != "done" for entry in self._store.entries)
        return not (self._stopping and (undone or self._analysing))

    @property
    def _stopping(self) -> bool:
        return self._stopped_at is not None

    def _is_pending(self) -> bool:
        return bool(self._waiting) or self._analysing

    def _adopt_or_queue(self) -> None:
        """Adopt the workers that a killed campaign left running, and queue the planned runs."""
        for entry in list(self._store.entries):
            if entry.status == "running":
                job = self._workload.jobs[entry.name]
                if worker := self._executor.adopt(entry, job, self._events.put):
                    self._adopted.add(entry.name)
                    gpus = self._gpus.take(entry.gpus)
                    self._record_worker(entry.name, worker, gpus)
                    self._display.say(f"{entry.name}: still running, process {worker.pid}")
                    self._interrupt_outdated(entry.name)
                    continue
                self._settle_unobserved(entry.name)
            if self._store[entry.name].status == "planned":
                self._waiting.append(entry.name)

    def _interrupt_outdated(self, name: str) -> None:
        """Have an adopted worker end if settings have changed, and so be resumed with the new ones.

        One that was started for fewer steps is resumed when it has done them.
        """
        if self._workload.has_changed(name, self._store.run_dir(name)):
            self._display.say(f"{name}: saves a checkpoint, and is resumed with changed settings")
            self._executor.interrupt(name)

    def _timeout_s(self) -> float:
        if self._waiting and not self._stopping and self._has_free_worker():
            return min(_TICK_S, self._next_start - monotonic())
        return _TICK_S

    def _has_free_worker(self) -> bool:
        return len(self._running) < self._workload.capacity.workers

    def _start_due(self) -> None:
        while self._waiting and self._has_free_worker() and not self._stopping:
            if monotonic() < self._next_start:
                return
            self._next_start = monotonic() + self._workload.stagger_s
            self._start(self._waiting.popleft())

    def _start(self, name: str) -> None:
        gpus = self._gpus.take()
        entry = self._store[name]
        self._store.change(
            name,
            **BEFORE_START,
            status="running",
            attempts=entry.attempts + 1,
            gpus=gpus,
            started=now_utc(),
            heartbeat=now_utc(),
        )
        self._running.add(name)
        try:
            self._workload.write_config(name, self._store.run_dir(name))
            job = self._workload.jobs[name]
            if gpus:
                visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
                job = replace(job, environment={**job.environment, **visible})
            worker = self._executor.start(job, self._events.put)
        except RunError as error:
            self._gpus.give_back(gpus)
            self._fail_or_retry(name, None, str(error))
            return
        self._display.changed(self._record_worker(name, worker, gpus))

    def _record_worker(self, name: str, worker: Worker, gpus: list[str]) -> RunEntry:
        self._running.add(name)
        return self._store.change(
            name,
            host=worker.host,
            pid=worker.pid,
            pid_started=worker.pid_started,
            job=worker.job,
            gpus=gpus,
        )

    def _handle(self, event: Event | None) -> None:
        match event:
            case Ended():
                self._on_ended(event)
            case Started(name=name, worker=worker):
                self._on_started(name, worker)
            case Interrupted():
                self._on_interrupted()
            case AnalysisEnded():
                self._on_analysis_ended(event)
            case None:
                return

    def _on_started(self, name: str, worker: Worker) -> None:
        entry = self._store[name]
        again = {"attempts": entry.attempts + 1} if entry.pid is not None else {}
        self._store.change(name, **again)
        self._display.changed(self._record_worker(name, worker, entry.gpus))

    def _on_ended(self, ended: Ended) -> None:
        name, exit_code = ended.name, ended.exit_code
        # An adopted worker may have been started for fewer steps, or with other settings.
        adopted = name in self._adopted and exit_code in (0, *INTERRUPTED_CODES)
        unobserved = exit_code is None or adopted
        self._running.discard(name)
        self._adopted.discard(name)
        self._gpus.give_back(self._store[name].gpus)
        if ended.reason and not self._stopping:
            self._fail_or_retry(name, exit_code, ended.reason)
        elif unobserved:
            self._settle_unobserved(name)
            if self._store[name].status == "planned" and not self._stopping:
                self._waiting.appendleft(name)
        elif exit_code == 0:
            self._settle_finished(name)
        elif self._stopping or exit_code in INTERRUPTED_CODES:
            run_dir = self._store.run_dir(name)
            reason = "interrupted" if self._stopping else failure_reason(run_dir, exit_code)
            self._finish(name, status="stopped", exit_code=exit_code, reason=reason)
        else:
            reason = failure_reason(self._store.run_dir(name), exit_code)
            self._fail_or_retry(name, exit_code, reason)

    def _settle_unobserved(self, name: str) -> None:
        """A run whose exit code is unknown is done if it is complete, and else resumed."""
        entry = self._store[name]
        if is_complete(self._store.run_dir(name), entry.max_steps):
            self._done(name, None)
        elif self._stopping:
            self._finish(name, status="stopped", reason="interrupted")
        else:
            self._store.change(name, status="planned", attempts=0)

    def _settle_finished(self, name: str) -> None:
        """A run that reports success is done if its results are there."""
        run_dir, adapter = self._store.run_dir(name), self._adapter_of(name)
        if lost := missing_results(run_dir, self._store[name].max_steps, adapter):
            self._fail_or_retry(name, 0, f"exit code 0, but {lost}")
        else:
            self._done(name, 0)

    def _done(self, name: str, exit_code: int | None) -> None:
        found = {
            "adapter": self._adapter_of(name),
            "final_metrics": final_metrics(self._store.run_dir(name)),
        }
        self._finish(name, status="done", exit_code=exit_code, **found)
        self._analyse_first_adapter()

    def _adapter_of(self, name: str) -> str | None:
        return adapter_of(self._store.run_dir(name), self._store.directory)

    def _fail_or_retry(self, name: str, exit_code: int | None, reason: str) -> None:
        self._running.discard(name)
        entry = self._store[name]
        attempts = 1 if self._executor.retries else 1 + self._workload.retries
        if entry.attempts < attempts:
            self._store.change(name, status="planned", exit_code=exit_code, reason=reason)
            self._waiting.appendleft(name)
            self._display.say(f"{name}: attempt {entry.attempts} of {attempts} ended: {reason}")
        else:
            self._finish(name, status="failed", exit_code=exit_code, reason=reason)

    def _finish(self, name: str, **values: Any) -> None:
        self._display.changed(self._store.change(name, **values, ended=now_utc()))

    def _on_interrupted(self) -> None:
        if self._stopping:
            self._display.say(f"killing {len(self._running)} runs")
            self._kill_all()
            return
        self._stopped_at = monotonic()
        if self._running:
            self._display.say(
                f"interrupted: waiting for {len(self._running)} runs to save a checkpoint; "
                "press Ctrl-C again to kill them"
            )
        for name in self._running:
            self._executor.interrupt(name)

    def _kill_all(self) -> None:
        for name in self._running:
            self._executor.kill(name)

    def _tick(self) -> None:
        """Refresh the display, record heartbeats, and kill runs that do not stop in time."""
        now = monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_S
        self._display.refresh()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + _HEARTBEAT_S
            self._store.heartbeat(self._running)
        if self._stopped_at and now > self._stopped_at + _STOP_TIMEOUT_S:
            self._display.say(f"killing {len(self._running)} runs that have not stopped")
            self._stopped_at = now
            self._kill_all()

    def _analyse_first_adapter(self) -> None:
        """Start the analysis of the first finished run's adapter, once."""
        analyse = self._workload.analyse
        if analyse is None or self._analysing or self._store.manifest.squeeze is not None:
            return
        done = (entry for entry in self._store.entries if entry.status == "done")
        first = min(done, key=lambda entry: entry.ended or "", default=None)
        if first is None or first.adapter is None:
            return
        self._analysing = True
        adapter = first.adapter
        analyse_in_thread(lambda: analyse(adapter), first.name, self._events.put)

    def _on_analysis_ended(self, event: AnalysisEnded) -> None:
        self._analysing = False
        result = event.result if not event.error else {"error": event.error}
        self._store.set_squeeze({"run": event.name, **result})
        self._display.say(
            f"the adapter of {event.name} could not be analysed: {event.error}"
            if event.error
            else event.text
        )
