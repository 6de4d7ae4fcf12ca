"""`metadata.json`: the starting point and the machine of a run, so that runs can be compared.

Paired runs (two conditions, one seed) have the same `initial_adapter` and `prompts` digests.
Environment variables are not recorded.
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
from retrain_backends.memory import machine_memory
from retrain_backends.protocols import Backend, Trainer, facts_of
from retrain_backends.train.storage.durable_writes import digests_of
from retrain_backends.train.storage.state_file import document_digest, versions
from retrain_backends.types import Determinism, Facts, Restored

METADATA_FILE = "metadata.json"
FIRST_PROMPTS = 32  # prompts in the digest of the data
_GIT_TIMEOUT_S = 5
_OWN_REWARDS = ("match", "math")  # deterministic functions of the completion


class MetadataFile:
    """The file of one run: a section for its start, and one for each resume.

    Args:
      directory: of the run; the adapter is exported there temporarily.
      backend: in its state at the start of the process.
      settings: values of the configuration to record, by key.
      reward: its type.
      model: a digest of each of the model's files, by name.
      restored: how exactly the backend was restored; None for a new run.
    """

    def __init__(
        self,
        directory: Path,
        backend: Backend,
        settings: Mapping[str, Any],
        reward: str,
        model: Mapping[str, str],
        restored: Restored | None,
    ) -> None:
        self._directory = directory
        self._backend = backend
        self._settings = settings
        self._reward = reward
        self._model = model
        self._restored = restored
        self._document: dict[str, Any] = {}
        self._section = self._document  # of this process

    def start(self, stream: PromptStream, steps_done: int) -> None:
        """Write the starting point of this process.

        Args:
          stream: the prompts of the run.
          steps_done: steps completed before.
        """
        damage = metadata_damage(self._directory) if steps_done else ""
        document = read_metadata(self._directory) if steps_done else None
        facts = facts_of(self._backend)
        if document is None:
            document = section = self._beginning(stream, facts)
            if steps_done:  # the file was lost, and the initial adapter is not known any more
                document["digests"]["initial_adapter"] = None
        else:
            now = environment(facts)
            changed = {key: value for key, value in now.items() if document.get(key) != value}
            section = {"after_steps": steps_done, **changed}
            document["resumed"] = [*document.get("resumed", []), section]
        if damage:
            section["damaged"] = damage
        if self._restored:
            section["resume_fidelity"] = self._restored.fidelity
            section["resume_fidelity_reason"] = self._restored.reason
        self._document, self._section = document, section
        write_metadata(self._directory, document)

    def note_probe(self, findings: Mapping[str, Any]) -> None:
        """Add findings of the probe to the section of this process."""
        self._section["probe"] = {**self._section.get("probe", {}), **findings}
        write_metadata(self._directory, self._document)

    def _beginning(self, stream: PromptStream, facts: Facts) -> dict[str, Any]:
        prompts = stream.batch(0, FIRST_PROMPTS)
        level, reason = determinism_of(self._reward, facts)
        return {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._settings,
            "digests": {
                "initial_adapter": adapter_digest(self._backend.trainer, self._directory),
                "prompts": text_digest(prompt.text for prompt in prompts),
                "prompts_counted": len(prompts),
                "model": dict(self._model),
            },
            **environment(facts),
            "determinism": {"level": level, "reason": reason},
        }


def environment(facts: Facts) -> dict[str, Any]:
    """Versions, commit and hardware, which may differ when the run is resumed."""
    return {
        "versions": versions(),
        "git_commit": git_commit(Path.cwd()),
        "hardware": hardware(facts),
    }


def determinism_of(reward: str, facts: Facts) -> tuple[Determinism, str]:
    """The determinism of a whole run: that of the backend, limited by that of the reward."""
    if reward == "judge":
        return "not controlled", "another model judges the completions"
    condition = "" if reward in _OWN_REWARDS else f", if the reward `{reward}` is deterministic"
    return facts.determinism, facts.reason + condition


def write_metadata(directory: Path, metadata: Mapping[str, Any]) -> None:
    """Replace the file atomically; `digest` covers the rest of it."""
    document = {**metadata, "digest": document_digest(metadata)}
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / METADATA_FILE, text + "\n")


def read_metadata(directory: Path) -> dict[str, Any] | None:
    """The contents of the file without their digest; None if it is missing or unreadable."""
    try:
        document = json.loads((directory / METADATA_FILE).read_text(encoding="utf-8"))
    # A border: a damaged file is not an error, since it is not part of the state.
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("digests"), dict):
        return None
    return {key: value for key, value in document.items() if key != "digest"}


def metadata_damage(directory: Path) -> str:
    """How the file differs from what was written; empty if it does not."""
    path = directory / METADATA_FILE
    if not path.exists():
        return f"{METADATA_FILE} is missing"
    document = read_metadata(directory)
    if document is None:
        return f"{METADATA_FILE} cannot be read"
    written = json.loads(path.read_text(encoding="utf-8")).get("digest")
    if written != document_digest(document):
        return f"{METADATA_FILE} was changed (its digest differs)"
    return ""


def adapter_digest(trainer: Trainer, directory: Path) -> str | None:
    """SHA-256 of the adapter's weights as the backend exports them now.

    Covers all exported files but the `.json` ones, which contain versions and paths. None if a
    service keeps the adapter.
    """
    exported = directory / ".initial_adapter.partial"
    shutil.rmtree(exported, ignore_errors=True)  # left by a process that was killed here
    exported.mkdir()
    try:
        if "://" in trainer.export_adapter(exported):
            return None
        return weights_digest(exported)
    finally:
        shutil.rmtree(exported)


def weights_digest(adapter: Path) -> str:
    """SHA-256 of the files of an adapter but the `.json` ones."""
    files = digests_of(adapter).items()
    return text_digest(f"{name} {digest}" for name, digest in files if name[-5:] != ".json")


def text_digest(texts: Iterable[str]) -> str:
    """SHA-256 of texts, each prefixed by its length, so that different lists differ."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def git_commit(directory: Path) -> str | None:
    """The commit that is checked out in `directory`; None outside a checkout, or without git."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a border: git may be missing, or the disk slow
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def hardware(facts: Facts) -> dict[str, Any]:
    """The machine: CPU, cores, memory, and the devices that the backend uses."""
    memory = machine_memory()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "gpus": list(facts.devices),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
