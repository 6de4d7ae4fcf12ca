import contextlib

import pytest

from retrain_cli.app import main


@pytest.fixture
def here(tmp_path):
    """An empty working directory."""
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def retrain(here, capsys):
    """Run a command line in an empty directory: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return (ended.value.code or 0, *capsys.readouterr())

    return run
