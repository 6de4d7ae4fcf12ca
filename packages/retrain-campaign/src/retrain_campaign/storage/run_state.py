"""What the directory of a run shows: whether a process works there, and whether it has finished.

Light to import: the models of a manifest and of a checkpoint are not loaded here.
"""

from pathlib import Path

from filelock import FileLock, Timeout

from retrain_backends.tracking.journal import METRICS_FILE
from retrain_backends.tracking.tail import last_rows

_LOCK_FILE = ".lock"  # as in `retrain_backends.train.storage.run_directory`


def is_locked(run_dir: Path) -> bool:
    """Whether a process holds the lock of the run's directory."""
    if not (run_dir / _LOCK_FILE).exists():
        return False
    try:
        with FileLock(run_dir / _LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a border: the directory belongs to another user
        return False


def missing_results(run_dir: Path, max_steps: int, adapter: str | None) -> str:
    """What a run lacks that should be done, as a phrase; empty if nothing.

    Only the last row of its log is read, so that thousands of runs take seconds.

    Args:
      run_dir: directory of the run.
      max_steps: steps that it should have done.
      adapter: its adapter, as in the manifest.
    """
    if not run_dir.is_dir():
        return "its directory is gone"
    rows = last_rows(run_dir / METRICS_FILE, 1)
    steps = rows[-1]["step"] + 1 if rows else 0
    if steps < max_steps:
        return f"{METRICS_FILE} has {steps:,} of {max_steps:,} steps"
    stored_here = adapter is not None and "://" not in adapter
    if adapter is None or (stored_here and not (run_dir.parents[1] / adapter).is_dir()):
        return "its adapter is gone"
    return ""
