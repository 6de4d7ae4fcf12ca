"""The running of a campaign: starts what is planned, notes what ends, tries again, stops in order.

Everything that happens comes through one queue, and is in the ledger before the next thing begins.
"""

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from retrain_backends.atomic import write_atomically
from retrain_backends.config import CONFIG_FILE, dump_config
from retrain_backends.errors import RunError
from retrain_campaign.capacity import GpuPool
from retrain_campaign.events import Event, Events, Interrupted, Squeezed
from retrain_campaign.executors.protocol import Ended, Executor, Placed, Worker
from retrain_campaign.ledger import Ledger, now_utc
from retrain_campaign.manifest import RunEntry
from retrain_campaign.orders import Orders
from retrain_campaign.outcome import adapter_of, final_metrics, is_whole, why_it_died
from retrain_campaign.squeeze import analyse_beside
from retrain_campaign.view import View

_TICK_S = 0.5
_HEARTBEAT_S = 5.0
_STOP_PATIENCE_S = 600.0  # a step and a checkpoint may take long, but not for ever
_INTERRUPTED = 130  # what a run exits with after Ctrl-C and its checkpoint

# What a run that begins, or begins anew, knows nothing of.
_NOTHING: Mapping[str, Any] = {
    "host": "",
    "pid": None,
    "pid_started": None,
    "job": "",
    "reason": "",
    "exit_code": None,
    "adapter": None,
    "final_metrics": None,
    "ended": None,
}


class Controller:
    """Runs the planned runs of a ledger."""

    def __init__(self, ledger: Ledger, orders: Orders, executor: Executor, view: View) -> None:
        self._ledger = ledger
        self._orders = orders
        self._executor = executor
        self._view = view
        self._events = Events()
        self._gpus = GpuPool(orders.capacity.gpus, orders.capacity.gpus_each)
        self._waiting: deque[str] = deque()
        self._running: set[str] = set()
        self._adopted: set[str] = set()  # may have been started for fewer steps than asked for now
        self._next_start = 0.0
        self._next_beat = 0.0
        self._next_tick = 0.0
        self._stopped_at: float | None = None
        self._analysing = False

    def run(self) -> bool:
        """Do all that is planned; False if it was interrupted before that."""
        with self._events.with_signals(), contextlib.closing(self._executor):
            self._take_stock()
            self._analyse_first()
            while self._running or (self._to_do() and not self._stopping):
                self._start_some()
                self._happened(self._events.take(self._patience()))
                self._tick()
        self._ledger.write()
        if self._analysing:
            self._view.say("interrupted: the analysis of an adapter was broken off")
        undone = any(entry.status != "done" for entry in self._ledger.entries)
        return not (self._stopping and (undone or self._analysing))

    @property
    def _stopping(self) -> bool:
        return self._stopped_at is not None

    def _to_do(self) -> bool:
        return bool(self._waiting) or self._analysing

    def _take_stock(self) -> None:
        """Adopt what a campaign that was killed left running, and queue what is to be done."""
        for entry in list(self._ledger.entries):
            if entry.status == "running":
                job = self._orders.jobs[entry.name]
                if worker := self._executor.adopt(entry, job, self._events.put):
                    self._adopted.add(entry.name)
                    gpus = self._gpus.take(entry.gpus)
                    self._note_worker(entry.name, worker, gpus)
                    self._view.say(f"{entry.name}: still running, process {worker.pid}")
                    continue
                self._settle_unseen(entry.name)
            if self._ledger[entry.name].status == "planned":
                self._waiting.append(entry.name)

    def _patience(self) -> float:
        if self._waiting and not self._stopping and self._has_room():
            return min(_TICK_S, self._next_start - monotonic())
        return _TICK_S

    def _has_room(self) -> bool:
        return len(self._running) < self._orders.capacity.workers

    def _start_some(self) -> None:
        while self._waiting and self._has_room() and not self._stopping:
            if monotonic() < self._next_start:
                return
            self._next_start = monotonic() + self._orders.settings.stagger_seconds
            self._start(self._waiting.popleft())

    def _start(self, name: str) -> None:
        gpus = self._gpus.take()
        entry = self._ledger[name]
        self._ledger.change(
            name,
            **_NOTHING,
            status="running",
            attempts=entry.attempts + 1,
            gpus=gpus,
            started=now_utc(),
            heartbeat=now_utc(),
        )
        self._running.add(name)
        try:
            self._prepare(name)
            job = self._orders.jobs[name]
            if gpus:
                visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
                job = replace(job, environment={**job.environment, **visible})
            worker = self._executor.start(job, self._events.put)
        except RunError as error:
            self._gpus.give_back(gpus)
            self._fail_or_retry(name, None, str(error))
            return
        self._view.changed(self._note_worker(name, worker, gpus))

    def _prepare(self, name: str) -> None:
        """The run's directory, with its configuration, from which it begins or goes on."""
        directory = self._ledger.run_dir(name)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / CONFIG_FILE, dump_config(self._orders.plan[name].config))

    def _note_worker(self, name: str, worker: Worker, gpus: list[str]) -> RunEntry:
        self._running.add(name)
        return self._ledger.change(
            name,
            host=worker.host,
            pid=worker.pid,
            pid_started=worker.pid_started,
            job=worker.job,
            gpus=gpus,
        )

    def _happened(self, event: Event | None) -> None:
        match event:
            case Ended():
                self._ended(event)
            case Placed(name=name, worker=worker):
                self._placed(name, worker)
            case Interrupted():
                self._interrupted()
            case Squeezed():
                self._squeezed(event)
            case None:
                return

    def _placed(self, name: str, worker: Worker) -> None:
        entry = self._ledger[name]
        again = {"attempts": entry.attempts + 1} if entry.pid is not None else {}
        self._ledger.change(name, **again)
        self._view.changed(self._note_worker(name, worker, entry.gpus))

    def _ended(self, ended: Ended) -> None:
        name, exit_code = ended.name, ended.exit_code
        unseen = exit_code is None or (exit_code == 0 and name in self._adopted)
        self._running.discard(name)
        self._adopted.discard(name)
        self._gpus.give_back(self._ledger[name].gpus)
        if ended.reason and not self._stopping:
            self._fail_or_retry(name, exit_code, ended.reason)
        elif unseen:
            self._settle_unseen(name)
            if self._ledger[name].status == "planned" and not self._stopping:
                self._waiting.appendleft(name)
        elif exit_code == 0:
            self._done(name, exit_code)
        elif self._stopping or exit_code == _INTERRUPTED:
            why = "interrupted" if self._stopping else why_it_died(self._ledger.run_dir(name), 130)
            self._change(name, status="stopped", exit_code=exit_code, reason=why)
        else:
            why = why_it_died(self._ledger.run_dir(name), exit_code)
            self._fail_or_retry(name, exit_code, why)

    def _settle_unseen(self, name: str) -> None:
        """A run of which nobody saw begin and end is done if it is whole; otherwise it goes on."""
        entry = self._ledger[name]
        if is_whole(self._ledger.run_dir(name), entry.max_steps):
            self._done(name, None)
        elif self._stopping:
            self._change(name, status="stopped", reason="interrupted")
        else:
            self._ledger.change(name, status="planned", attempts=0)

    def _done(self, name: str, exit_code: int | None) -> None:
        run_dir = self._ledger.run_dir(name)
        self._change(
            name,
            status="done",
            exit_code=exit_code,
            adapter=adapter_of(run_dir, self._ledger.directory),
            final_metrics=final_metrics(run_dir),
        )
        self._analyse_first()

    def _fail_or_retry(self, name: str, exit_code: int | None, why: str) -> None:
        self._running.discard(name)
        entry = self._ledger[name]
        tries = 1 if self._executor.retries else 1 + self._orders.settings.retries
        if entry.attempts < tries:
            self._ledger.change(name, status="planned", exit_code=exit_code, reason=why)
            self._waiting.appendleft(name)
            self._view.say(f"{name}: attempt {entry.attempts} of {tries} ended: {why}")
        else:
            self._change(name, status="failed", exit_code=exit_code, reason=why)

    def _change(self, name: str, **values: Any) -> None:
        self._view.changed(self._ledger.change(name, **values, ended=now_utc()))

    def _interrupted(self) -> None:
        if self._stopping:
            self._view.say(f"killing {len(self._running)} runs")
            self._kill_all()
            return
        self._stopped_at = monotonic()
        if self._running:
            self._view.say(
                f"interrupted: waiting for {len(self._running)} runs to save a checkpoint; "
                "Ctrl-C again kills them"
            )
        for name in self._running:
            self._executor.interrupt(name)

    def _kill_all(self) -> None:
        for name in self._running:
            self._executor.kill(name)

    def _tick(self) -> None:
        """What is due from time to time: signs of life, the view, an end to waiting."""
        now = monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_S
        self._view.refresh()
        if now >= self._next_beat:
            self._next_beat = now + _HEARTBEAT_S
            self._ledger.beat(self._running)
        if self._stopped_at and now > self._stopped_at + _STOP_PATIENCE_S:
            self._view.say(f"killing {len(self._running)} runs that have not stopped")
            self._stopped_at = now
            self._kill_all()

    def _analyse_first(self) -> None:
        """Have the adapter of the first finished run analysed beside the others, once."""
        analyse = self._orders.analyse
        if analyse is None or self._analysing or self._ledger.manifest.squeeze is not None:
            return
        done = (entry for entry in self._ledger.entries if entry.status == "done")
        first = min(done, key=lambda entry: entry.ended or "", default=None)
        if first is None or first.adapter is None:
            return
        self._analysing = True
        adapter = first.adapter
        analyse_beside(lambda: analyse(adapter), first.name, self._events.put)

    def _squeezed(self, event: Squeezed) -> None:
        self._analysing = False
        found = event.result if not event.error else {"error": event.error}
        self._ledger.set_squeeze({"run": event.name, **found})
        self._view.say(
            f"the adapter of {event.name} could not be analysed: {event.error}"
            if event.error
            else event.text
        )
