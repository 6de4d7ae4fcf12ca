"""Every mistake of a file or command line in one line each: where, what was given, what may be."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from retrain_squeeze.config import Allowed, Section, SqueezeJob, without_password

_LONGEST_SHOWN = 80
_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Origin:
    """Where values came from: the file, or for the `section.key`s in `flags` the flag typed."""

    file: str
    flags: Mapping[str, str] = field(default_factory=dict)

    def place(self, section: str, key: str) -> str:
        """How a message names one key."""
        return self.flags.get(f"{section}.{key}") or f"{self.file}: [{section}] {key}"


def sections() -> Mapping[str, type[Section]]:
    """The tables of a job by name."""
    found = {name: info.annotation for name, info in SqueezeJob.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type)}


def allowed(section: str, key: str) -> str:
    """The values that a key may have, in words."""
    metadata = sections()[section].model_fields[key].metadata
    return next(mark.text for mark in metadata if isinstance(mark, Allowed))


def problems_of(error: ValidationError, origin: Origin, given: Mapping[str, Any]) -> list[str]:
    """The lines that tell a user about tables that failed validation, in order."""
    lines = (_line(problem, origin, given) for problem in error.errors(include_url=False))
    return list(dict.fromkeys(lines))


def clashes(job: SqueezeJob, origin: Origin) -> Iterator[str]:
    """Lines for settings that are fine each by itself, but not together or not on this disk."""
    told = job.squeeze
    if told.adapter_path and (nearby := _inside(Path(told.adapter_path))):
        yield (
            f"{origin.place('squeeze', 'adapter_path')} is `{told.adapter_path}`, which holds no "
            f"adapter itself; did you mean {nearby}?"
        )
    if not told.output_path:
        for key in ("compress_to", "per_module"):
            if getattr(told, key):
                yield (
                    f"{origin.place('squeeze', key)} is `{toml_value(getattr(told, key))}`, but "
                    "nothing is written; set output_path to a directory, or leave it out"
                )
    if told.per_module and told.compress_to:
        yield (
            f"{origin.place('squeeze', 'compress_to')} is `{told.compress_to}`, but per_module "
            "chooses the ranks; leave out one of the two"
        )
    if told.output_path and (problem := _not_free(Path(told.output_path))):
        yield f"{origin.place('squeeze', 'output_path')} is `{told.output_path}`, which {problem}"


def did_you_mean(wanted: str, names: Sequence[str], form: str = "{}") -> str:
    """`; did you mean X?` with the most similar of `names` in `form`, or nothing."""
    found = get_close_matches(wanted.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {form.format(found[0])}?" if found else ""


def toml_value(value: object) -> str:
    """A value on one line as TOML writes it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _inside(path: Path) -> Path | None:
    """The adapter below a directory that is none, such as `final` of a run."""
    if (path / _CONFIG).exists():
        return None
    found = (file.parent for file in path.glob(f"*/{_CONFIG}"))
    return min(found, key=lambda folder: (folder.name != "final", folder.name), default=None)


def _not_free(path: Path) -> str:
    if path.is_dir():
        full = next(path.iterdir(), None)
        return "is a directory with files in it; name a new or an empty one" if full else ""
    return "is a file; name a directory" if path.exists() else ""


def _line(problem: ErrorDetails, origin: Origin, given: Mapping[str, Any]) -> str:
    section, *rest = map(str, problem["loc"])
    if not rest:
        return _table_problem(problem, origin, section)
    key, value = rest[0], given[section].get(rest[0])
    place = origin.place(section, key)
    if problem["type"] == "extra_forbidden":
        keys = list(sections()[section].model_fields)
        hint = did_you_mean(key, keys) or f"; the keys of [{section}] are {', '.join(keys)}"
        return f"{place} is an unknown key{hint}"
    typed = place.startswith("--") and isinstance(value, str)
    shown = without_password(value if typed else toml_value(value))
    cut = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
    return f"{place} is `{cut}`; it must be {allowed(section, key)}"


def _table_problem(problem: ErrorDetails, origin: Origin, table: str) -> str:
    names = list(sections())
    if problem["type"] != "extra_forbidden":
        return f"{origin.file}: [{table}] must be a table, not {toml_value(problem['input'])}"
    if isinstance(problem["input"], dict | list):
        hint = did_you_mean(table, names, "[{}]")
        read = ", ".join(f"[{name}]" for name in names)
        return f"{origin.file}: [{table}] is no table of an analysis, which reads {read}{hint}"
    return f"{origin.file}: {table} stands outside of any table; did you mean [squeeze]?"
