"""Error messages for configurations: one line per mistake with place, value and allowed values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from retrain_backends.config.credentials import without_credentials
from retrain_backends.config.describe import (
    FieldDoc,
    SectionDoc,
    nested_section,
    options_doc,
    sections,
    toml_value,
)
from retrain_backends.config.flags import Arguments
from retrain_backends.config.nearest import did_you_mean, nearest
from retrain_backends.config.other_tools import known_key, note_on, why_absent
from retrain_backends.config.section import UNUSABLE, Section

_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Origin:
    """Where values came from: the file, or the typed flag for the paths in `flags`."""

    file: str
    flags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Arguments) -> Self:
        """Where the values of a command line come from."""
        return cls(arguments.paths[0] if arguments.paths else "retrain.toml", arguments.flags)

    def place(self, section: str, key: str) -> str:
        """How a message names one key."""
        return self.flags.get(f"{section}.{key}") or f"{self.file}: [{section}] {key}"


def problems_of(error: ValidationError, origin: Origin, given: Mapping[str, Any]) -> list[str]:
    """The error messages of a failed validation.

    Args:
      error: from pydantic.
      origin: where each value came from.
      given: the tables that were validated.

    Returns:
      One line for each key or table with a mistake, in the order of the models.
    """
    lines = (_line(problem, origin, given) for problem in error.errors(include_url=False))
    return list(dict.fromkeys(lines))


def problems_of_options(
    error: ValidationError, name: str, model: type[Section], given: Mapping[str, Any]
) -> list[str]:
    """As `problems_of`, for the option table of a part.

    Args:
      error: from pydantic.
      name: of the table, such as `backend.options`.
      model: its section class, which may have nested tables.
      given: the values that were validated.
    """
    problems = error.errors(include_url=False)
    return list(dict.fromkeys(_option_line(problem, name, model, given) for problem in problems))


def _option_line(
    problem: ErrorDetails, name: str, model: type[Section], given: Mapping[str, Any]
) -> str:
    key, *inner = map(str, problem["loc"]) if problem["loc"] else ("",)
    nested = nested_section(model, key)
    if nested and inner:
        nested_problem = ErrorDetails(**{**problem, "loc": problem["loc"][1:]})
        return _option_line(nested_problem, f"{name}.{key}", nested, given[key])
    section = options_doc(name, model)
    if not key:
        return f"{section.header} {_message(problem)}"
    return _key_problem(problem, f"{section.header} {key}", section, (key, given.get(key)))


def _line(problem: ErrorDetails, origin: Origin, given: Mapping[str, Any]) -> str:
    table, *rest = map(str, problem["loc"])
    if not rest:
        return _table_problem(problem, origin, table)
    by_name = {section.name: section for section in sections()}
    section, key, place = by_name[table], rest[0], f"{by_name[table].header} {rest[0]}"
    value = given[table].get(key)
    repeated = by_name.get(f"{table}.{key}")
    if repeated and len(rest) > 1:  # a table of a list: (table, list, index, key)
        index = int(rest[1])
        if len(rest) == 2:
            return f"{origin.file}: {repeated.header} number {index + 1} must be a table"
        section, key, value = repeated, rest[2], value[index].get(rest[2]) if value else None
        place = f"{repeated.header} number {index + 1}, {key}"
    flag = origin.flags.get(f"{table}.{rest[0]}")
    return _key_problem(problem, flag or f"{origin.file}: {place}", section, (key, value))


def _table_problem(problem: ErrorDetails, origin: Origin, table: str) -> str:
    if problem["type"] == "value_error":
        return f"{origin.file}: [{table}] {_message(problem)}"
    if problem["type"] != "extra_forbidden":
        return f"{origin.file}: [{table}] must be a table, not {_shown(problem['input'])}"
    if isinstance(problem["input"], dict | list):
        names = [section.name for section in sections() if not section.repeated]
        hint = did_you_mean(table, names, "[{}]") or f"; the tables are {', '.join(names)}"
        return f"{origin.file}: [{table}] is an unknown table{hint}"
    hint = _translated(table) or "".join(_elsewhere(table)) or "; `retrain flags` lists all keys"
    return f"{origin.file}: {table} is outside of any table{hint}"


def _key_problem(
    problem: ErrorDetails, place: str, section: SectionDoc, given: tuple[str, Any]
) -> str:
    key, value = given
    if problem["type"] in (UNUSABLE, "credentials"):
        return f"{place} {problem['msg']}"
    doc = next((doc for doc in section.fields if doc.key == key), None)
    if doc is None:
        return f"{place} is an unknown key{_known_keys(section, key)}"
    if problem["type"] == "missing":
        return f"{place} is missing; it must be {doc.allowed}"
    shown = _shown(value, typed=place.startswith("--"))
    return f"{place} is `{shown}`; it must be {doc.allowed}{_nearest_value(doc, value)}"


def _known_keys(section: SectionDoc, key: str) -> str:
    keys = [doc.key for doc in section.fields]
    hint = _translated(key) or did_you_mean(key, keys) or "".join(_elsewhere(key))
    return hint or f"; the keys of {section.header} are {', '.join(keys)}"


def _translated(key: str) -> str:
    """The hint for another tool's name of a key; empty if it is unknown."""
    if path := known_key(key):
        table, _, name = path.partition(".")
        return f"; here it is {name} in [{table}]{note_on(path)}"
    reason = why_absent(key)
    return f"; {reason}" if reason else ""


def _elsewhere(key: str) -> Iterator[str]:
    """A hint with at most two tables that have such a key."""
    docs = [doc for section in sections() if not section.repeated for doc in section.fields]
    same = [f"{doc.key} in [{doc.section}]" for doc in docs if doc.key == key.lower()]
    if not same and (similar := nearest(key, [doc.key for doc in docs])):
        same = [f"{doc.key} in [{doc.section}]" for doc in docs if doc.key == similar]
    if same:
        yield f"; did you mean {' or '.join(same[:2])}?"


def _nearest_value(doc: FieldDoc, value: object) -> str:
    name = nearest(value, doc.names) if isinstance(value, str) else None
    return f"; did you mean {toml_value(name)}?" if name and name != value else ""


def _message(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ")


def _shown(value: object, *, typed: bool = False) -> str:
    """The value on one line, as TOML or as it was typed, truncated if it is long."""
    text = without_credentials(value if typed and isinstance(value, str) else toml_value(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
