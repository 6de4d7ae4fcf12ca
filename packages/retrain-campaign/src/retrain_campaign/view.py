"""What a campaign tells while it goes."""

from contextlib import AbstractContextManager
from typing import Protocol

from retrain_campaign.manifest import RunEntry


class View(AbstractContextManager["View"], Protocol):
    """Shows the events of a campaign, and how its runs are."""

    def say(self, line: str) -> None:
        """Tell something."""
        ...

    def changed(self, entry: RunEntry) -> None:
        """A run has another status; called again for one that is started again."""
        ...

    def refresh(self) -> None:
        """Look again how far the runs are; called about twice a second."""
        ...
