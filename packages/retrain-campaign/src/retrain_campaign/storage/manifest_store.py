"""The manifest of a running campaign: every change is written before the next step is taken."""

from collections.abc import Iterable
from datetime import UTC, datetime
from io import BufferedWriter
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import JsonValue

from retrain_campaign.storage.campaign_directory import CHANGES_FILE
from retrain_campaign.storage.manifest import Manifest, RunEntry, line_of_run, write_manifest


class ManifestStore:
    """The current state of a campaign's runs, kept in memory and on the disk.

    A change appends one line to `manifest.log`, whatever the number of runs. `manifest.json` is
    replaced at intervals that grow with the time it takes to write.

    Args:
      directory: of the campaign.
      manifest: the initial state.
      share: fraction of the time that may be spent replacing `manifest.json`.
    """

    def __init__(self, directory: Path, manifest: Manifest, share: float = 0.02) -> None:
        self._share = share
        self.directory = directory
        self.manifest = manifest
        self._index_of = {run.name: index for index, run in enumerate(manifest.runs)}
        self._changes: BufferedWriter | None = None
        self._due = 0.0
        self.write()

    def __getitem__(self, name: str) -> RunEntry:
        return self.manifest.runs[self._index_of[name]]

    @property
    def entries(self) -> list[RunEntry]:
        """All runs, in the order of the plan."""
        return self.manifest.runs

    def run_dir(self, name: str) -> Path:
        """The directory of a run."""
        return self.directory / self[name].run_dir

    def change(self, name: str, **values: Any) -> RunEntry:
        """Change a run's entry, in memory and on the disk."""
        entry = self[name].model_copy(update=values)
        self.manifest.runs[self._index_of[name]] = entry
        if self._changes is None:
            self._changes = (self.directory / CHANGES_FILE).open("ab")
        self._changes.write(line_of_run(entry).encode())
        self._changes.flush()
        self.write_if_due()
        return entry

    def heartbeat(self, names: Iterable[str]) -> None:
        """Record that these runs are alive; written with the next replacement."""
        now = now_utc()
        for name in names:
            entry = self[name].model_copy(update={"heartbeat": now})
            self.manifest.runs[self._index_of[name]] = entry
        self.write_if_due()

    def set_squeeze(self, result: dict[str, JsonValue]) -> None:
        """Record the result of the analysis of an adapter."""
        self.manifest = self.manifest.model_copy(update={"squeeze": result})
        self.write()

    def record_own_time(self, elapsed_s: float) -> None:
        """Record how much of the command's time was before the first run and after the last."""
        starts = [datetime.fromisoformat(entry.started) for entry in self.entries if entry.started]
        ends = [datetime.fromisoformat(entry.ended) for entry in self.entries if entry.ended]
        own_time_s = elapsed_s - (max(ends) - min(starts)).total_seconds()
        self.manifest = self.manifest.model_copy(update={"own_time_s": own_time_s})
        self.write()

    def write_if_due(self) -> None:
        """Replace `manifest.json`, unless that was done recently."""
        if monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Replace `manifest.json`."""
        started = monotonic()
        self.close()
        write_manifest(self.directory, self.manifest)
        ended = monotonic()
        self._due = ended + (ended - started) / self._share

    def close(self) -> None:
        """Close `manifest.log`; the next change opens it again."""
        if self._changes:
            self._changes.close()
            self._changes = None


def now_utc() -> str:
    """The current time, in the format of the manifest."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
