"""The directory of a campaign: its files, and how it is recognised.

Light to import: the models of a manifest are not loaded here.
"""

import json
from pathlib import Path

CAMPAIGN_FILE = "campaign.toml"  # the campaign's file, resolved
MANIFEST_FILE = "manifest.json"
CHANGES_FILE = "manifest.log"
_FIRST_LINE = b'{"campaign":'  # of the log of changes


def is_campaign(directory: Path) -> bool:
    """Whether a directory holds a campaign; other programs also write a `manifest.json`.

    A manifest that is damaged or cannot be read counts as a campaign's, so that it is reported and
    not silently skipped.
    """
    # A border: the files may belong to another program.
    try:
        with (directory / CHANGES_FILE).open("rb") as file:
            if file.read(len(_FIRST_LINE)) == _FIRST_LINE:
                return True
    except OSError:  # without it, the manifest decides
        pass
    try:
        found = json.loads((directory / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(found, dict) and {"format", "runs"} <= found.keys()


def relative_to(working_directory: Path, directory: Path) -> Path:
    """The directory as the commands of its runs name it: relative where possible.

    The result does not depend on where the campaign is resumed from, since running workers are
    recognised by their commands.
    """
    directory, base = directory.resolve(), working_directory.resolve()
    return directory.relative_to(base) if directory.is_relative_to(base) else directory
