from pathlib import Path

import pytest

from retrain_backends.config import json_schema, load_config, sections
from retrain_core import ADVANTAGE_MODES

ROOT = Path(__file__).parents[3]
FIELDS = [field for section in sections() for field in section.fields]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_every_key_is_documented_in_a_sentence(field):
    assert field.description.endswith((".", ")"))
    assert field.allowed


def test_the_schema_has_every_table_and_no_null():
    schema = json_schema()
    assert set(schema["properties"]) == {s.name for s in sections() if not s.repeated}
    assert "null" not in str(schema)


def test_the_schema_names_built_ins_and_plugins():
    mode = json_schema()["$defs"]["AlgorithmConfig"]["properties"]["advantage_mode"]
    assert mode["anyOf"][0]["enum"] == list(ADVANTAGE_MODES)
    assert "pattern" in mode["anyOf"][1]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.toml")), ids=lambda p: p.name)
def test_the_examples_load(path):
    load_config(path)
