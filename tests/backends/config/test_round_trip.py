from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrain_backends.config import RunConfig, dump_config, json_schema, load_config
from retrain_backends.config.section import LARGEST_SEED

SCHEMA = json_schema()
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXT = st.text(CHARACTERS)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Anything that a part of the JSON Schema allows."""
    if "$ref" in schema:
        return tables(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if schema.get("anyOf") == [{"type": "object"}, {"type": "string"}]:
        return st.dictionaries(TEXT, JSON, max_size=3)
    if "anyOf" in schema:
        return st.one_of(*map(values, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return PLAIN[schema["type"]](schema)


def numbers(schema: dict[str, Any]) -> st.SearchStrategy[float]:
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:  # here "$" is the very end
        return st.from_regex(schema["pattern"].replace("$", r"\Z"), fullmatch=True)
    # Phrases that begin with "[" would have to be JSON.
    return st.text(CHARACTERS, min_size=schema.get("minLength", 0)).filter(
        lambda text: not text.lstrip().startswith("[")
    )


def lists(schema: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    items = schema["items"]
    distinct = items.get("type") == "integer" or "anyOf" in items or "uniqueItems" in schema
    return st.lists(values(items), min_size=schema.get("minItems", 0), max_size=3, unique=distinct)


PLAIN = {
    "boolean": lambda _schema: st.booleans(),
    "integer": lambda schema: st.integers(
        schema.get("minimum", -LARGEST_SEED), schema.get("maximum", LARGEST_SEED)
    ),
    "number": numbers,
    "string": texts,
    "array": lists,
}


def tables(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables with some of the keys of a section, and all required ones."""
    keys = {key: values(part) for key, part in schema["properties"].items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {key: value for key, value in keys.items() if key in required},
        optional={key: value for key, value in keys.items() if key not in required},
    ).filter(keys_agree)


def keys_agree(table: dict[str, Any]) -> bool:
    """Whether keys that depend on each other within a table agree."""
    labels = [
        c.get("name") or f"{c['advantage_mode']}+{c['transform_mode']}"
        for c in table.get("conditions", ())
    ]
    samples, temperature = table.get("samples", 1), table.get("temperature", -1)
    return (
        table.get("min_batch_size", 1) <= table.get("max_batch_size", 64)
        and max(table.get("pass_k", [1])) <= samples
        and not -1 < temperature < 0
        and (samples == 1 or temperature != 0)
        and len(set(labels)) == len(labels)
        and ("wandb" not in table.get("trackers", ()) or table.get("wandb_project", "") != "")
    )


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_tables=tables(SCHEMA))
def test_a_configuration_survives_toml(tmp_path_factory, given_tables):
    config = RunConfig.model_validate(given_tables)
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_bytes(dump_config(config).encode())
    assert load_config(path) == config


def test_the_dump_of_the_defaults_has_every_table_that_is_always_there():
    text = dump_config(RunConfig())
    optional = ("campaign", "squeeze")
    assert all(f"[{name}]" in text for name in RunConfig.model_fields if name not in optional)
    assert not any(f"[{name}]" in text for name in optional)
