"""The manifest of a campaign while it runs: every change on the disk before anything follows it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from io import BufferedWriter
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import JsonValue

from retrain_campaign.manifest import CHANGES_FILE, Manifest, RunEntry, write_manifest


class Ledger:
    """The runs of a campaign as they are now.

    A change costs one line, however many runs there are; the whole manifest is written when the
    last time is long enough ago compared with how long that took.

    Args:
      directory: of the campaign.
      manifest: as it is to be from now on.
      share: of the time, that replacing the manifest may take.
    """

    def __init__(self, directory: Path, manifest: Manifest, share: float = 0.02) -> None:
        self._share = share
        self.directory = directory
        self.manifest = manifest
        self._place = {run.name: index for index, run in enumerate(manifest.runs)}
        self._changes: BufferedWriter | None = None
        self._due = 0.0
        self.write()

    def __getitem__(self, name: str) -> RunEntry:
        return self.manifest.runs[self._place[name]]

    @property
    def entries(self) -> list[RunEntry]:
        """All runs, in the order of the plan."""
        return self.manifest.runs

    def run_dir(self, name: str) -> Path:
        """The directory of a run."""
        return self.directory / self[name].run_dir

    def change(self, name: str, **values: Any) -> RunEntry:
        """Change a run's entry, here and on the disk."""
        entry = self[name].model_copy(update=values)
        self.manifest.runs[self._place[name]] = entry
        if self._changes is None:
            self._changes = (self.directory / CHANGES_FILE).open("ab")
        self._changes.write(entry.model_dump_json().encode() + b"\n")
        self._changes.flush()
        self.write_if_due()
        return entry

    def beat(self, names: Iterable[str]) -> None:
        """Note that these runs are alive; written with the next manifest."""
        now = now_utc()
        for name in names:
            entry = self[name].model_copy(update={"heartbeat": now})
            self.manifest.runs[self._place[name]] = entry
        self.write_if_due()

    def set_squeeze(self, result: dict[str, JsonValue]) -> None:
        """Note what the analysis of an adapter found."""
        self.manifest = self.manifest.model_copy(update={"squeeze": result})
        self.write()

    def write_if_due(self) -> None:
        """Replace the manifest, unless that was done a moment ago."""
        if monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Replace the manifest."""
        started = monotonic()
        self.close()
        write_manifest(self.directory, self.manifest)
        ended = monotonic()
        self._due = ended + (ended - started) / self._share

    def close(self) -> None:
        """Close the file of changes; the next change opens it again."""
        if self._changes:
            self._changes.close()
            self._changes = None


def now_utc() -> str:
    """The time as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
