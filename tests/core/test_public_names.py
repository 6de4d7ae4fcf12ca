import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import retrain_core


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def names_for_type_checkers():
    """Name -> module of the imports under TYPE_CHECKING."""
    source = Path(retrain_core.__file__).read_text(encoding="utf-8")
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("retrain_core.")
        for alias in node.names
    }


def test_all_names_are_public_and_all_public_names_are_in_all():
    assert set(retrain_core.__all__) == {*names_for_type_checkers(), "__version__"}
    assert dir(retrain_core) == sorted(retrain_core.__all__)


@pytest.mark.parametrize(("name", "module"), sorted(names_for_type_checkers().items()))
def test_a_name_loads_from_the_module_that_type_checkers_see(name, module):
    assert getattr(retrain_core, name) is getattr(import_module(module), name)


def test_star_import_brings_exactly_all():
    code = (
        "from retrain_core import *; print(' '.join(sorted(n for n in globals() if n[0] != '_')))"
    )
    expected = sorted(name for name in retrain_core.__all__ if not name.startswith("_"))
    assert run(code).split() == expected


def test_importing_loads_numpy_only_on_first_use_of_a_name():
    code = """
import sys, retrain_core
before = "numpy" in sys.modules
retrain_core.grpo
print(before, "numpy" in sys.modules)
"""
    assert run(code) == "False True"


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute `gropo`"):
        getattr(retrain_core, "gropo")  # noqa: B009 - an attribute that does not exist
