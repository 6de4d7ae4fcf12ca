"""The configuration, described from its own models: for tables, flags, help and error messages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from retrain_backends.config.run import RunConfig
from retrain_backends.config.section import Allowed, Section

# The fields of these sections say by themselves what they are, so their flags need no section in
# front. The names within these sections are unique (tested).
SHORT_FLAG_SECTIONS = ("model", "backend", "algorithm", "training", "inference", "logging")

_KINDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


@dataclass(frozen=True)
class FieldDoc:
    """One key of one section.

    `flag` is the flag that the documentation shows, without dashes; empty for keys of tables that
    repeat. `default` is written as in TOML, None when the key is required. `kind` is the JSON type,
    "" when there are several. `names` are the built-in names, for keys that have such.
    """

    section: str
    key: str
    flag: str
    kind: str
    default: str | None
    allowed: str
    names: tuple[str, ...]
    description: str

    @property
    def path(self) -> str:
        """`section.key`, the name that overrides use."""
        return f"{self.section}.{self.key}"


@dataclass(frozen=True)
class SectionDoc:
    """One TOML table. `repeated` tables are written `[[name]]`."""

    name: str
    description: str
    fields: tuple[FieldDoc, ...]
    repeated: bool = False

    @property
    def header(self) -> str:
        """The table's header in TOML."""
        return f"[[{self.name}]]" if self.repeated else f"[{self.name}]"


class _TomlSchema(GenerateJsonSchema):
    """JSON Schema of what TOML can say: there is no null, a missing table is just not there."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if "default" in described and described["default"] is None:
            del described["default"]
        return described


def json_schema() -> dict[str, Any]:
    """JSON Schema of a configuration file, for editors."""
    schema = RunConfig.model_json_schema(schema_generator=_TomlSchema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "retrain configuration",
        "description": "A file for the retrain command.",
    }


@cache
def sections() -> tuple[SectionDoc, ...]:
    """Every table of a configuration file, in the order of `RunConfig`."""
    docs: list[SectionDoc] = []
    for name, info in RunConfig.model_fields.items():
        model = _section_class(info)
        docs.append(_section_doc(name, model))
        for key, field in model.model_fields.items():
            if nested := _section_in(field.annotation):
                docs.append(_section_doc(f"{name}.{key}", nested, repeated=True))
    return tuple(docs)


@cache
def fields_by_path() -> Mapping[str, FieldDoc]:
    """All fields by `section.key`."""
    return {field.path: field for section in sections() for field in section.fields}


def options_doc(name: str, model: type[Section]) -> SectionDoc:
    """A table that a part of a run reads itself, such as `[backend.options]`; it has no flags."""
    return replace(_section_doc(name, model, repeated=True), repeated=False)


def nested_section(model: type[Section], key: str) -> type[Section] | None:
    """The class of the table that stands under a key; None when the key holds a plain value."""
    return _section_in(model.model_fields[key].annotation) if key in model.model_fields else None


def toml_value(value: object) -> str:
    """A value on one line as TOML writes it, for messages and tables."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).replace("e-0", "e-")


def _section_class(info: FieldInfo) -> type[Section]:
    found = _section_in(info.annotation)
    assert found is not None, "every field of RunConfig is a section"
    return found


def _section_in(annotation: Any) -> type[Section] | None:
    """The section class inside `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_section_in(argument) for argument in get_args(annotation))
    return next((section for section in found if section), None)


def _section_doc(name: str, model: type[Section], *, repeated: bool = False) -> SectionDoc:
    properties = model.model_json_schema(schema_generator=_TomlSchema)["properties"]
    fields = []
    for attribute, info in model.model_fields.items():
        key = info.validation_alias or attribute
        assert isinstance(key, str)
        fields.append(_field_doc(name, key, info, properties[key], repeated=repeated))
    return SectionDoc(name, model.__doc__ or "", tuple(fields), repeated)


def _field_doc(
    section: str, key: str, info: FieldInfo, schema: Mapping[str, Any], *, repeated: bool
) -> FieldDoc:
    written = [mark.text for mark in info.metadata if isinstance(mark, Allowed)]
    return FieldDoc(
        section=section,
        key=key,
        flag="" if repeated else _flag(section, key),
        kind=schema.get("type", ""),
        default=None if info.is_required() else _default(info),
        allowed=written[0] if written else _allowed(schema),
        names=tuple(_names(schema)),
        description=info.description or "",
    )


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    return "unset" if value is None else toml_value(value)


def _flag(section: str, key: str) -> str:
    if (section, key) == ("resume", "from"):
        return "resume"
    if section in SHORT_FLAG_SECTIONS:
        return key.replace("_", "-")
    return f"{section}-{key}".replace("_", "-")


def _names(schema: Mapping[str, Any]) -> list[str]:
    schema = schema.get("items", schema)
    for choice in schema.get("anyOf", [schema]):
        if "enum" in choice:
            return [name for name in choice["enum"] if name]
    return []


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(toml_value, schema["enum"]))
    if "anyOf" in schema:
        names = [toml_value(name) for name in schema["anyOf"][0]["enum"]]
        return ", ".join([*names, "or a plugin (my_module.my_object)"])
    if schema.get("minLength") == 1:
        return "text, not empty"
    return _KINDS[schema["type"]] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in words.items() if key in schema]
    return " " + " and ".join(limits) if limits else ""
