"""Backends and rewards that kill their own process with SIGKILL according to a plan.

`kill_harness.py` copies this file into a working directory and names its classes in the
configuration. The plan is `plan.json` in that directory; it is read once and removed. Without a
plan nothing is killed, and the passages of each place are counted in `counts.json`.

    {"place": "sample", "passage": 3, "moment": "during"}

Places are the calls `sample`, `reward`, `train`, `save`, `export_adapter` and `load`, and
`files`: any operation on a path in the run directory (open, rename, create, delete, truncate).
Moments are `before` the call, `during` it (a timer, or half-written files), and `after` it.
"""

import atexit
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness_plugins import MUTANTS, Parity, mutant

from retrain_backends.dotted_names import load_object
from retrain_backends.rewards.match import MatchReward
from retrain_backends.types import Rollout, Verdict

PLAN, COUNTS, RUN = Path("plan.json"), Path("counts.json"), "run"
CALLS = ("sample", "train", "save", "export_adapter", "load")
FILE_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
TIMER_S = 0.001
BACKENDS = {
    "Fake": "retrain_backends.fake:FakeBackend",
    "Local": "retrain_backends.local.backend:LocalBackend",
}


class Killer:
    """Counts the passages of each place and kills the process at the planned one."""

    def __init__(self) -> None:
        self._plan: dict[str, Any] = {}
        self._passages: Counter[str] = Counter()
        self._next_event_kills = False
        if PLAN.exists():
            self._plan = json.loads(PLAN.read_text())
            PLAN.unlink()
        else:
            atexit.register(lambda: COUNTS.write_text(json.dumps(self._passages)))
        sys.addaudithook(self._hear)

    def call(self, place: str, work: Any, *arguments: Any, **named: Any) -> Any:
        """Call `work`, or the part of it before the kill."""
        if not self._is_planned(place):
            return work(*arguments, **named)
        if self._plan["moment"] == "before":
            kill()
        if self._plan["moment"] == "during":
            threading.Timer(TIMER_S, kill).start()
        done = work(*arguments, **named)
        if place == "sample":  # a generator: sampling runs while it is consumed
            list(done)
        if self._plan["moment"] == "during" and place in ("save", "export_adapter"):
            halve_files(arguments[0])
        return kill()

    def _is_planned(self, place: str) -> bool:
        self._passages[place] += 1
        wanted = self._plan.get("place"), self._plan.get("passage")
        return (place, self._passages[place]) == wanted

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS or not f"{arguments[0]}/".startswith(f"{RUN}/"):
            return
        if self._next_event_kills:
            kill()
        if self._is_planned("files"):
            if self._plan["moment"] == "before":
                kill()
            self._next_event_kills = True


def kill() -> None:
    """End this process with SIGKILL: no handler runs, no buffer is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def halve_files(directory: Path) -> None:
    """Truncate each file to half its size, as an interrupted write would."""
    for path in directory.iterdir():
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


KILLER = Killer()


def killing(backend: type) -> type:
    """The backend with every call of its sampler and trainer passing through the killer."""

    def from_config(_cls: type, settings: Any) -> Any:
        made = backend.from_config(settings)
        for place in CALLS:
            part = made.sampler if place == "sample" else made.trainer
            setattr(part, place, partial(KILLER.call, place, getattr(part, place)))
        return made

    return type("Killing", (backend,), {"from_config": classmethod(from_config)})


class KillingMatch(MatchReward):
    """The reward `match`, with kills."""

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """Judge."""
        return KILLER.call("reward", super().score, items)


class KillingParity(Parity):
    """The reward `Parity`, with kills."""

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """Judge."""
        return KILLER.call("reward", super().score, items)


def __getattr__(name: str) -> type:
    """Create `KillingFake`, `LosingLocal` and the like on first use; the local ones need torch."""
    kind = next((kind for kind in ("Killing", *MUTANTS) if name.startswith(kind)), "")
    path = BACKENDS.get(name.removeprefix(kind))
    if not kind or not path:
        raise AttributeError(name)
    backend = load_object(path)
    return killing(mutant(backend, MUTANTS[kind]) if kind in MUTANTS else backend)
