"""How the directory of a campaign is recognised, without loading the models of its manifest."""

import json
from pathlib import Path

MANIFEST_FILE = "manifest.json"


def is_campaign(directory: Path) -> bool:
    """Whether a directory holds a campaign; other programs also write a `manifest.json`.

    A damaged manifest counts as a campaign's, so that it is reported and not silently skipped.
    """
    # A border: the file may belong to another program.
    try:
        found = json.loads((directory / MANIFEST_FILE).read_bytes())
    except OSError:
        return False
    except (ValueError, RecursionError):
        return True
    return isinstance(found, dict) and {"format", "runs"} <= found.keys()
