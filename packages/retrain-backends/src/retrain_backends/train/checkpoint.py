"""The adapters that a run writes: `checkpoints/step_000020/` on the way, `final/` at the end."""

import os
import shutil
from pathlib import Path

from retrain_backends.protocols import Backend


class Checkpoints:
    """Saves the backend's adapter, whole or not at all.

    Args:
      backend: what is saved.
      directory: where the adapters go.
      every: number of steps between two saves.
    """

    def __init__(self, backend: Backend, directory: Path, every: int) -> None:
        self._backend = backend
        self._directory = directory
        self._every = every
        self._latest: tuple[int, str] | None = None

    def save_if_due(self, steps_done: int) -> None:
        """Save when `steps_done` is a multiple of `every`."""
        if steps_done % self._every == 0:
            self.save(steps_done)

    def save(self, steps_done: int) -> str:
        """Save as `checkpoints/step_<steps_done>` unless that is done, and say where it is."""
        if self._latest is None or self._latest[0] != steps_done:
            target = self._directory / "checkpoints" / f"step_{steps_done:06d}"
            self._latest = steps_done, export_adapter(self._backend, target)
        return self._latest[1]

    def save_final(self) -> str:
        """Save as `final` and say where it is."""
        return export_adapter(self._backend, self._directory / "final")


def export_adapter(backend: Backend, target: Path) -> str:
    """Have the backend write its adapter beside `target`, flush it to the disk, then rename it.

    So `target` is never seen half written, not even after a power failure.

    Args:
      backend: what is saved.
      target: the directory to make; must not exist.

    Returns:
      `target`, or the service's path when the backend keeps its adapters elsewhere.
    """
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    where = backend.export_adapter(partial)
    for path in [*partial.rglob("*"), partial]:
        _flush(path)
    partial.rename(target)
    _flush(target.parent)
    return str(target) if where == str(partial) else where


def _flush(path: Path) -> None:
    """Have the operating system write a file, or a directory's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory, and needs not
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
