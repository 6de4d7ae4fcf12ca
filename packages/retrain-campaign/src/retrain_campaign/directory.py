"""Which directory a campaign has."""

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from retrain_backends.errors import ConfigError
from retrain_campaign.manifest import MANIFEST_FILE, Manifest, is_campaign, read_manifest
from retrain_campaign.plan import Campaign

_log = logging.getLogger(__name__)

CAMPAIGN_FILE = "campaign.toml"  # in a campaign's directory: its file as it was resolved


def new_directory(campaign: Campaign, now: datetime) -> Path:
    """Where a new campaign goes; nothing is made yet.

    Raises:
      ConfigError: the directory that `[campaign]` names has something in it, or cannot be one.
    """
    wanted = campaign.settings.directory
    if not wanted:
        parent = Path(campaign.base.logging.log_dir).parent
        stem = f"campaign_{now:%Y%m%d_%H%M%S}"
        names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        return next(parent / name for name in names if not (parent / name).exists())
    path = Path(wanted)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        go_on = f"`retrain campaign {path}` goes on with it, or " if is_campaign(path) else ""
        raise ConfigError(f"campaign.directory: `{path}` exists already; {go_on}name another one")
    return path


def earlier_directory(campaign: Campaign) -> Path:
    """Where the campaign is that was started before: where `[campaign]` says, or the newest.

    That is the newest from a file of this name, beside `log_dir`. Those whose manifest is damaged
    are passed over, with a warning.

    Raises:
      ConfigError: there is none.
    """
    if named := campaign.settings.directory:
        return Path(named)
    parent, name = Path(campaign.base.logging.log_dir).parent, campaign.path.stem
    found = sorted(parent.glob(f"*/{MANIFEST_FILE}"), key=lambda path: path.stat().st_mtime)
    for path in reversed(found):
        # A border: a campaign of somebody else, or no campaign at all.
        try:
            if is_campaign(path.parent) and read_manifest(path.parent).name == name:
                return path.parent
        except ConfigError as error:
            _log.warning("passed over: %s", error)
    raise ConfigError(
        f"--resume: there is no campaign of `{name}` below {parent}; name its directory, or leave "
        "--resume out to start one"
    )


def work_of(manifest: Manifest) -> Path:
    """Where the runs of an earlier campaign work: where it was started, or here if that is gone."""
    work = Path(manifest.directory)
    return work if work.is_dir() else Path.cwd()


@contextmanager
def where_its_runs_work(directory: Path) -> Iterator[Path]:
    """Work where the runs of a campaign do, so that plugins and paths are found as they find them.

    Args:
      directory: of the campaign.

    Yields:
      The directory as it is called from there.

    Raises:
      ConfigError: it is no campaign.
    """
    work = work_of(read_manifest(directory))
    seen = directory if work == Path.cwd() else directory.resolve()
    with chdir(work):
        yield seen
