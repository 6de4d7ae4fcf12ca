import subprocess
import sys

import pytest

from retrain_squeeze.errors import MissingExtraError
from retrain_squeeze.extras import load_part


def test_a_part_by_name():
    assert load_part("retrain_squeeze.errors:MissingExtraError", "x") is MissingExtraError


@pytest.mark.parametrize(
    ("package", "part", "extra"),
    [
        ("wandb", "retrain_squeeze.tracking:track", "wandb"),
        ("httpx", "retrain_squeeze.tinker_download:fetch_adapter", "tinker"),
        ("tinker", "retrain_squeeze.tinker_download:fetch_adapter", "tinker"),
    ],
)
def test_a_missing_extra_says_what_to_install(package, part, extra):
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from retrain_squeeze.extras import load_part\n"
        f"try: load_part({part!r}, 'key')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("MissingExtraError key needs the package `")
    assert done.stdout.endswith(f": pip install 'retrain-squeeze[{extra}]'\n")
