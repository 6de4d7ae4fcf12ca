"""Descriptions of the configuration models, for tables, flags, help and error messages."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from retrain_backends.config.run import RunConfig
from retrain_backends.config.section import Allowed, NameOrPlugin, Section

# Flags of the fields of these sections have no section prefix. Their names are unique (tested).
SHORT_FLAG_SECTIONS = ("model", "backend", "algorithm", "training", "inference", "logging")

# Keys of other sections that have a short flag.
_SHORT_FLAGS = {"resume.from": "resume", "campaign.seeds": "seeds"}

_KIND_OF = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    tuple: "array",
    Literal: "string",
}
_KINDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
}
_BOUNDS = ((Ge, "ge", ">="), (Gt, "gt", ">"), (Le, "le", "<="), (Lt, "lt", "<"))


@dataclass(frozen=True)
class FieldDoc:
    """One key of one section.

    `flag` is the documented flag without dashes, empty for keys of repeated tables. `default` is
    written as in TOML, None if the key is required. `kind` is the JSON type, "" if there are
    several. `names` are the built-in names, if the key has any.
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
        """`section.key`, as in overrides."""
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
    """JSON Schema for TOML, which has no null: a missing table is absent."""

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
    """A table of options that belongs to a part, such as `[backend.options]`; it has no flags."""
    return replace(_section_doc(name, model, repeated=True), repeated=False)


def nested_section(model: type[Section], key: str) -> type[Section] | None:
    """The section class of a nested table; None if the key has a plain value."""
    return _section_in(model.model_fields[key].annotation) if key in model.model_fields else None


def toml_value(value: object) -> str:
    """A value in TOML on one line, for messages and tables."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).replace("e-0", "e-")


def _section_class(info: FieldInfo) -> type[Section]:
    section = _section_in(info.annotation)
    assert section is not None, "every field of RunConfig is a section"
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """The section class inside `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    nested = (_section_in(argument) for argument in get_args(annotation))
    return next((section for section in nested if section), None)


def _section_doc(name: str, model: type[Section], *, repeated: bool = False) -> SectionDoc:
    fields = []
    for attribute, info in model.model_fields.items():
        key = info.validation_alias or attribute
        assert isinstance(key, str)
        fields.append(_field_doc(name, key, info, repeated=repeated))
    return SectionDoc(name, model.__doc__ or "", tuple(fields), repeated)


def _field_doc(section: str, key: str, info: FieldInfo, *, repeated: bool) -> FieldDoc:
    explicit = [mark.text for mark in info.metadata if isinstance(mark, Allowed)]
    kind, names = _kind(info), _names(info)
    return FieldDoc(
        section=section,
        key=key,
        flag="" if repeated else _flag(section, key),
        kind=kind,
        default=None if info.is_required() else _default(info),
        allowed=explicit[-1] if explicit else _allowed(info, kind, names),
        names=tuple(name for name in names if name),
        description=info.description or "",
    )


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    return "unset" if value is None else toml_value(value)


def _flag(section: str, key: str) -> str:
    if short := _SHORT_FLAGS.get(f"{section}.{key}"):
        return short
    if section in SHORT_FLAG_SECTIONS:
        return key.replace("_", "-")
    return f"{section}-{key}".replace("_", "-")


def _kind(info: FieldInfo) -> str:
    """The JSON type of a field; from its annotation, because building validators is slow."""
    if _plugin_names(info) is not None:
        return ""
    annotation = get_origin(info.annotation) or info.annotation
    return _KIND_OF.get(annotation, "")


def _plugin_names(info: FieldInfo) -> tuple[str, ...] | None:
    return next((mark.names for mark in info.metadata if isinstance(mark, NameOrPlugin)), None)


def _names(info: FieldInfo) -> tuple[str, ...]:
    """The built-in names of a field, if it has any, including the empty one."""
    if get_origin(info.annotation) is Literal:
        return get_args(info.annotation)
    return _plugin_names(info) or tuple(_item_names(info))


def _item_names(info: FieldInfo) -> Iterator[str]:
    """The built-in names of the items of a list."""
    for item in get_args(info.annotation):
        marks = getattr(item, "__metadata__", ())
        yield from (name for mark in marks if isinstance(mark, NameOrPlugin) for name in mark.names)


def _allowed(info: FieldInfo, kind: str, names: Sequence[str]) -> str:
    shown = [toml_value(name) for name in names]
    if _plugin_names(info) is not None:
        return ", ".join([*shown, "or a plugin (my_module.my_object)"])
    if names:
        return "one of " + ", ".join(shown)
    if any(isinstance(mark, MinLen) for mark in info.metadata):
        return "text, not empty"
    return _KINDS.get(kind, "a table") + _bounds(info)


def _bounds(info: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(mark, name):g}"
        for kind, name, sign in _BOUNDS
        for mark in info.metadata
        if isinstance(mark, kind)
    ]
    return " " + " and ".join(limits) if limits else ""
