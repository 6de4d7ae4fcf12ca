from importlib import import_module
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def statsmodels():
    """The modules of statsmodels that are oracles; their import takes seconds."""
    names = ("multitest", "power", "proportion", "weightstats")
    return SimpleNamespace(**{name: import_module(f"statsmodels.stats.{name}") for name in names})
