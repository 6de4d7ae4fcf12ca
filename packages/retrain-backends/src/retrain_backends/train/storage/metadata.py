"""`metadata.json`: what a run started from and ran on, so that two runs can be compared.

Paired runs show it: with one seed, two conditions have the same `initial_adapter` and the same
`prompts` digest. Nothing of the environment's variables is in it.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrain_backends.atomic import write_atomically
from retrain_backends.data import PromptStream
from retrain_backends.protocols import Backend, Trainer, facts_of
from retrain_backends.train.storage.durable_writes import digests_of
from retrain_backends.train.storage.state_file import versions
from retrain_backends.types import Determinism, Facts, Restored

METADATA_FILE = "metadata.json"
FIRST_PROMPTS = 32  # prompts whose texts stand for the data
_GIT_TIMEOUT_S = 5
_OWN_REWARDS = ("match", "math")  # whose verdicts depend on the completion alone


class MetadataFile:
    """The file of one run: a section for its start, and one for each time it was resumed.

    Args:
      directory: of the run; the adapter passes through it.
      backend: in the state in which the process begins.
      seed: of the run.
      reward: its type.
      model: a digest of each of the model's files, by name.
      restored: how exactly the backend continues; None when the run begins.
    """

    def __init__(
        self,
        directory: Path,
        backend: Backend,
        seed: int,
        reward: str,
        model: Mapping[str, str],
        restored: Restored | None,
    ) -> None:
        self._directory = directory
        self._backend = backend
        self._seed = seed
        self._reward = reward
        self._model = model
        self._restored = restored
        self._document: dict[str, Any] = {}
        self._section = self._document  # of this process

    def start(self, stream: PromptStream, steps_done: int) -> None:
        """Write what this process starts from.

        Args:
          stream: the prompts of the run.
          steps_done: that the run has behind it.
        """
        document = read_metadata(self._directory) if steps_done else None
        facts = facts_of(self._backend)
        if document is None:
            document = section = self._beginning(stream, facts)
            if steps_done:  # the file is lost, and so is the adapter that the run began with
                document["digests"]["initial_adapter"] = None
        else:
            now = surroundings(facts)
            changed = {key: value for key, value in now.items() if document.get(key) != value}
            section = {"after_steps": steps_done, **changed}
            document["resumed"] = [*document.get("resumed", []), section]
        if self._restored:
            section["resume_fidelity"] = self._restored.fidelity
            section["resume_fidelity_reason"] = self._restored.reason
        self._document, self._section = document, section
        write_metadata(self._directory, document)

    def note_probe(self, findings: Mapping[str, Any]) -> None:
        """Add to what the probe has found since this process started."""
        self._section["probe"] = {**self._section.get("probe", {}), **findings}
        write_metadata(self._directory, self._document)

    def _beginning(self, stream: PromptStream, facts: Facts) -> dict[str, Any]:
        prompts = stream.batch(0, FIRST_PROMPTS)
        level, reason = determinism_of(self._reward, facts)
        return {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": self._seed,
            "digests": {
                "initial_adapter": adapter_digest(self._backend.trainer, self._directory),
                "prompts": text_digest(prompt.text for prompt in prompts),
                "prompts_counted": len(prompts),
                "model": dict(self._model),
            },
            **surroundings(facts),
            "determinism": {"level": level, "reason": reason},
        }


def surroundings(facts: Facts) -> dict[str, Any]:
    """What a run ran on: what may differ when it is resumed."""
    return {
        "versions": versions(),
        "git_commit": git_commit(Path.cwd()),
        "hardware": hardware(facts),
    }


def determinism_of(reward: str, facts: Facts) -> tuple[Determinism, str]:
    """What the same seed promises of the whole run: the backend's promise, or the reward's less."""
    if reward == "judge":
        return "not controlled", "another model judges the completions"
    trust = "" if reward in _OWN_REWARDS else f", if the reward `{reward}` always judges alike"
    return facts.determinism, facts.reason + trust


def write_metadata(directory: Path, metadata: Mapping[str, Any]) -> None:
    """Write the file whole, in place of an older one."""
    text = json.dumps(metadata, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / METADATA_FILE, text + "\n")


def read_metadata(directory: Path) -> dict[str, Any] | None:
    """What the file says; None when there is none that can be read."""
    try:
        found = json.loads((directory / METADATA_FILE).read_text(encoding="utf-8"))
    # A border: the file may be damaged, and is no part of the state.
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def adapter_digest(trainer: Trainer, directory: Path) -> str | None:
    """SHA-256 of the adapter's weights as the backend exports them now.

    Of the exported files all but the `.json` ones, which name versions and paths. None when the
    backend keeps its adapters elsewhere.
    """
    passing = directory / ".initial_adapter.partial"
    shutil.rmtree(passing, ignore_errors=True)  # what a kill at this very moment left
    passing.mkdir()
    try:
        if "://" in trainer.export_adapter(passing):
            return None
        found = digests_of(passing)
    finally:
        shutil.rmtree(passing)
    weights = [f"{name} {digest}" for name, digest in found.items() if not name.endswith(".json")]
    return text_digest(weights)


def text_digest(texts: Iterable[str]) -> str:
    """SHA-256 of texts, each with its length in front, so that no two lists have one digest."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def git_commit(directory: Path) -> str | None:
    """The commit that is checked out in `directory`; None outside a checkout, or without git."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a border: git may be missing, or the disk slow
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def hardware(facts: Facts) -> dict[str, Any]:
    """The machine: CPU, cores, memory, and the devices that the backend uses."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": list(facts.devices),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    names = getattr(os, "sysconf_names", {})  # Windows has none
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
