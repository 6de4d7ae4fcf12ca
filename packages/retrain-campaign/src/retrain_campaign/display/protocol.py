"""The interface between a running campaign and what it shows."""

from contextlib import AbstractContextManager
from typing import Protocol

from retrain_campaign.storage.manifest import RunEntry


class Display(AbstractContextManager["Display"], Protocol):
    """Shows the events of a campaign and the progress of its runs."""

    def say(self, line: str) -> None:
        """Show a message."""
        ...

    def changed(self, entry: RunEntry) -> None:
        """Show that the status of a run has changed, or that it was started again."""
        ...

    def refresh(self) -> None:
        """Read and show the progress of the runs; called about twice a second."""
        ...
