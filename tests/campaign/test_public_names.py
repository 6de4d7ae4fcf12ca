import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import retrain_campaign


def names_for_type_checkers():
    """Name -> module of the imports under TYPE_CHECKING."""
    source = Path(retrain_campaign.__file__).read_text(encoding="utf-8")
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("retrain_campaign.")
        for alias in node.names
    }


def test_all_names_are_public_and_all_public_names_are_in_all():
    assert set(retrain_campaign.__all__) == {*names_for_type_checkers(), "__version__"}
    assert dir(retrain_campaign) == sorted(retrain_campaign.__all__)
    assert retrain_campaign.__version__ == version("retrain-campaign")


@pytest.mark.parametrize(("name", "module"), sorted(names_for_type_checkers().items()))
def test_a_name_loads_from_the_module_that_type_checkers_see(name, module):
    assert getattr(retrain_campaign, name) is getattr(import_module(module), name)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="has no attribute `run_`"):
        retrain_campaign.run_  # noqa: B018
