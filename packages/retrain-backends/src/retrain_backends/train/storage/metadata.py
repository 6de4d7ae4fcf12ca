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
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrain_backends.atomic import write_atomically
from retrain_backends.config import RunConfig
from retrain_backends.protocols import Backend
from retrain_backends.train.storage.durable_writes import digests_of
from retrain_backends.train.storage.state_file import versions
from retrain_backends.types import BackendFacts, Determinism, Prompt

METADATA_FILE = "metadata.json"
FIRST_PROMPTS = 32  # prompts whose texts stand for the data
_GIT_TIMEOUT_S = 5
_OWN_REWARDS = ("match", "math")  # whose verdicts depend on the completion alone


def run_metadata(
    config: RunConfig,
    backend: Backend,
    prompts: Sequence[Prompt],
    model: Mapping[str, str],
    directory: Path,
) -> dict[str, Any]:
    """Everything that `metadata.json` says of the start of a run, but for the probe.

    Args:
      config: with its seed drawn.
      backend: in its initial state.
      prompts: the first prompts of the run, in its order.
      model: a digest of each of the model's files, by name.
      directory: of the run; the adapter passes through it.
    """
    facts = backend.describe()
    level, reason = determinism_of(config, facts)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": config.training.seed,
        "digests": {
            "initial_adapter": adapter_digest(backend, directory),
            "prompts": text_digest(prompt.text for prompt in prompts),
            "prompts_counted": len(prompts),
            "model": dict(model),
        },
        **surroundings(facts),
        "determinism": {"level": level, "reason": reason},
    }


def surroundings(facts: BackendFacts) -> dict[str, Any]:
    """What a run ran on: what may differ when it is resumed."""
    return {
        "versions": versions(),
        "git_commit": git_commit(Path.cwd()),
        "hardware": hardware(facts),
    }


def determinism_of(config: RunConfig, facts: BackendFacts) -> tuple[Determinism, str]:
    """What the same seed promises of the whole run: the backend's promise, or the reward's less."""
    reward = config.reward.type
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


def adapter_digest(backend: Backend, directory: Path) -> str | None:
    """SHA-256 of the adapter's weights as the backend exports them now.

    Of the exported files all but the `.json` ones, which name versions and paths. None when the
    backend keeps its adapters elsewhere.
    """
    passing = directory / ".initial_adapter.partial"
    shutil.rmtree(passing, ignore_errors=True)  # what a kill at this very moment left
    passing.mkdir()
    try:
        if "://" in backend.export_adapter(passing):
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


def hardware(facts: BackendFacts) -> dict[str, Any]:
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
