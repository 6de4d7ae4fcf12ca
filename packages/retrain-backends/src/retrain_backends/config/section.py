"""The strict frozen model that all sections share, and the types of its values.

Every type has a JSON Schema, so that documentation, flags and error messages can be generated from
the models. `Allowed` describes in words what a schema cannot express.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from retrain_backends.config.credentials import refuse_credentials

PLUGIN_NAME = r"^[A-Za-z_]\w*([.:][A-Za-z_]\w*)+$"
PLUGIN_GROUP = "retrain.plugins"
DEEPEST = 64  # of tables and lists inside each other
UNUSABLE = "unusable"  # type of the error for a value that no key may have
LARGEST_SEED = 2**63 - 1  # valid in TOML, numpy and torch

_Value = TypeVar("_Value", int, str)


class Section(BaseModel):
    """One TOML table: frozen, without unknown keys, type conversions or NaN.

    Texts have no NUL characters, and integers have at most 64 bits, as TOML's have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        if _contains_nul(value):
            raise PydanticCustomError(UNUSABLE, "has a NUL character; remove it")
        if isinstance(value, int) and not -LARGEST_SEED <= value <= LARGEST_SEED:
            raise PydanticCustomError(UNUSABLE, "has more than 64 bits; use a smaller integer")
        return value


@dataclass(frozen=True)
class Allowed:
    """The allowed values of a field in words, for tables and error messages."""

    text: str


@dataclass(frozen=True)
class NameOrPlugin:
    """Marks a `str` that is one of the built-in `names`, or the name of a plugin.

    A plugin is written `my_module.my_object` or `my_package.my_module:my_object`; the entry point
    `kind.name` of an installed package also has that short name.
    """

    kind: str
    names: tuple[str, ...]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate as a string, then by name."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The names, and the pattern of a plugin's name."""
        return {"anyOf": [{"enum": list(self.names)}, {"type": "string", "pattern": PLUGIN_NAME}]}

    def _check(self, name: str) -> str:
        if name in self.names or re.fullmatch(PLUGIN_NAME, name):
            return name
        if not entry_points(group=PLUGIN_GROUP, name=f"{self.kind}.{name}"):
            raise ValueError("unknown name")
        return name


def is_too_deep(value: object) -> bool:
    """Whether tables and lists are inside each other more than `DEEPEST` times."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for container in level for inner in _items(container)]
        if not level:
            return False
    return True


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _contains_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    keys = value if isinstance(value, dict) else ()
    return any(map(_contains_nul, keys)) or any(map(_contains_nul, _items(value)))


def table_from_json(value: object) -> object:
    """Parse a JSON object into a table; other values are returned unchanged, for validation."""
    if not isinstance(value, str):
        return value
    try:
        table = json.loads(value)
        # TOML has neither NaN nor unpaired surrogates.
        json.dumps(table, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return value
    return value if is_too_deep(table) else table


def _contains_null(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return any(map(_contains_null, value.values()))
    if isinstance(value, list):
        return any(map(_contains_null, value))
    return value is None


def _table_for_toml(table: dict[str, JsonValue]) -> dict[str, JsonValue] | str:
    """Write a table with a null as JSON, because TOML has no null."""
    return json.dumps(table) if _contains_null(table) else table


def _tuple_from_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _urls(value: object) -> object:
    if isinstance(value, str):
        return (value,) if value else ()
    return _tuple_from_list(value)


def distinct(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """The values; raises ValueError if one is repeated."""
    if len(set(values)) < len(values):
        raise ValueError("repeated value")
    return values


FreeTable: TypeAlias = Annotated[
    dict[str, JsonValue],
    BeforeValidator(table_from_json),
    AfterValidator(refuse_credentials),
    PlainSerializer(_table_for_toml),
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "string"}]}),
    Allowed("a table, or a JSON object as text"),
]
"""A table with arbitrary keys but no credentials; also accepted as a JSON string."""

Seed: TypeAlias = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
PositiveShare: TypeAlias = Annotated[float, Field(gt=0, le=1)]
NonNegative: TypeAlias = Annotated[float, Field(ge=0)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
CountOrZero: TypeAlias = Annotated[int, Field(ge=0)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
ADDRESS = (
    "an address that starts with http:// or https://, with no user or password before an `@` and no"
    " query after a `?`"
)
_ADDRESS = r'https?://[!"\x24->A-~]+'
Url: TypeAlias = Annotated[
    str,
    Field(pattern=rf"^({_ADDRESS})?$"),
    Allowed(f'{ADDRESS} (a key belongs in an environment variable), or ""'),
]
"""Credentials are refused, because the address is written to files and messages."""


Urls: TypeAlias = Annotated[
    tuple[Annotated[Url, Field(min_length=1)], ...],
    BeforeValidator(_urls),
    AfterValidator(distinct),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^({_ADDRESS})?$"},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": f"^{_ADDRESS}$"},
                    "uniqueItems": True,
                },
            ]
        }
    ),
    Allowed(f"{ADDRESS} (a key belongs in an environment variable), or a list of them"),
]
"""One address as text, or a list of them."""


def key_in(variable: str) -> Allowed:
    """What an address must be whose key is read from an environment variable."""
    return Allowed(f'{ADDRESS} (a key belongs in the environment variable {variable}), or ""')


ListFromToml = BeforeValidator(_tuple_from_list)
