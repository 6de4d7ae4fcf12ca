"""Finds the directory of a new or an earlier campaign, and the one its runs work in."""

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from retrain_backends.errors import ConfigError
from retrain_campaign.plan.campaign import Campaign
from retrain_campaign.storage.campaign_directory import CHANGES_FILE, MANIFEST_FILE, is_campaign
from retrain_campaign.storage.manifest import Manifest
from retrain_campaign.storage.manifest_reader import read_manifest

_MANIFEST_FILES = (MANIFEST_FILE, CHANGES_FILE)  # of which a damaged campaign may lack one
_log = logging.getLogger(__name__)


def new_directory(campaign: Campaign, now: datetime) -> Path:
    """The directory for a new campaign; it is not created here.

    Raises:
      ConfigError: `campaign.directory` names a directory that is not empty, or a file.
    """
    wanted = campaign.settings.directory
    # A border: the directory above may belong to another user.
    try:
        if not wanted:
            return _unused_directory(Path(campaign.base.logging.log_dir).parent, now)
        path = Path(wanted)
        free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except PermissionError as error:
        raise ConfigError(
            f"campaign.directory: `{error.filename}` cannot be accessed ({error.strerror}); name "
            "another one"
        ) from error
    if not free:
        resume = f"resume it with `retrain campaign {path}`, or " if is_campaign(path) else ""
        raise ConfigError(f"campaign.directory: `{path}` exists already; {resume}name another one")
    return path


def _unused_directory(parent: Path, now: datetime) -> Path:
    stem = f"campaign_{now:%Y%m%d_%H%M%S}"
    names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    return next(parent / name for name in names if not (parent / name).exists())


def earlier_directory(campaign: Campaign) -> Path:
    """The directory of the campaign to resume: `campaign.directory`, or else the newest.

    The newest is looked for among the campaigns of a file of the same name, beside `log_dir`.
    Those whose manifest is damaged are skipped with a warning.

    Raises:
      ConfigError: there is none.
    """
    if named := campaign.settings.directory:
        return Path(named)
    parent, name = Path(campaign.base.logging.log_dir).parent, campaign.path.stem
    found = [path for file in _MANIFEST_FILES for path in parent.glob(f"*/{file}")]
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    for directory in dict.fromkeys(path.parent for path in newest):
        # A border: the manifest may belong to another program.
        try:
            if is_campaign(directory) and read_manifest(directory).name == name:
                return directory
        except ConfigError as error:
            _log.warning("skipped: %s", error)
    raise ConfigError(
        f"--resume: there is no campaign of `{name}` in {parent}; name its directory, or leave out "
        "--resume to start a new one"
    )


def working_directory_of(manifest: Manifest) -> Path:
    """The directory that a campaign was started in, or the current one if that is gone."""
    directory = Path(manifest.directory)
    return directory if directory.is_dir() else Path.cwd()


@contextmanager
def in_working_directory(directory: Path) -> Iterator[Path]:
    """Change to the working directory of a campaign's runs, so that its plugins and paths resolve.

    Args:
      directory: of the campaign.

    Yields:
      The campaign's directory, as seen from there.

    Raises:
      ConfigError: it is not a campaign.
    """
    working_directory = working_directory_of(read_manifest(directory))
    seen = directory if working_directory == Path.cwd() else directory.resolve()
    with chdir(working_directory):
        yield seen
