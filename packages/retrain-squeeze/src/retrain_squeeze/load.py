"""From a TOML file and overrides to one job: default < TOML < flag."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retrain_squeeze.config import SqueezeJob
from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.problems import Origin, clashes, did_you_mean, problems_of

# Keys of tables that an analysis shares with training runs, and has no use for.
OF_TRAINING: Mapping[str, frozenset[str]] = {
    "model": frozenset({"model", "lora_rank"}),
    "logging": frozenset({"log_dir", "condition", "strategic_grams"}),
}


def load_job(
    path: Path | None, overrides: Mapping[str, object], flags: Mapping[str, str]
) -> SqueezeJob:
    """The job of a TOML file with overrides on top.

    Args:
      path: the file; None for the defaults alone.
      overrides: values by `section.key`, typed as in TOML.
      flags: how the user wrote each override, for messages.

    Raises:
      SqueezeConfigError: holds a line for every mistake found in the file and the overrides.
    """
    tables = read_toml(path) if path else {}
    file = str(path or "the command line")
    if path and not isinstance(tables.get("squeeze", {}), dict):
        raise SqueezeConfigError(f"{file}: squeeze must be a table: [squeeze]")
    if path and "squeeze" not in tables:
        hint = did_you_mean("squeeze", list(tables), "[squeeze] where it says [{}]")
        raise SqueezeConfigError(
            f"{file}: there is no table [squeeze], which says what to analyse"
            f"{hint or '; write adapter_path under it'}"
        )
    return job_of(_merged(tables, overrides), Origin(file, flags))


def job_of(tables: Mapping[str, Any], origin: Origin) -> SqueezeJob:
    """The job in tables as TOML has them.

    Raises:
      SqueezeConfigError: holds a line for every mistake.
    """
    try:
        job = SqueezeJob.model_validate(tables)
    except ValidationError as error:
        raise SqueezeConfigError(*problems_of(error, origin, tables)) from error
    problems = list(clashes(job, origin))
    if not job.squeeze.adapter_path:
        place = origin.place("squeeze", "adapter_path")
        problems.insert(
            0, f"{place} is missing; name a PEFT adapter's directory or a tinker:// path"
        )
    if problems:
        raise SqueezeConfigError(*problems)
    return job


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; a byte-order mark, which some editors write, is skipped.

    Raises:
      SqueezeConfigError: there is no such file, it cannot be read, or is not TOML in UTF-8.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise SqueezeConfigError(f"{path}: no such file{_similar(path)}") from None
    except OSError as error:
        raise SqueezeConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SqueezeConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except ValueError as error:  # bad syntax, or an integer of thousands of digits
        said = re.sub(r" \((at .*)\)$", r", \1", str(error))
        raise SqueezeConfigError(f"{path}: is not TOML: {said[:1].lower()}{said[1:]}") from error
    except RecursionError as error:
        raise SqueezeConfigError(f"{path}: is nested too deeply") from error


def _similar(path: Path) -> str:
    names = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    return did_you_mean(path.name, names, str(path.parent / "{}"))


def _merged(tables: Mapping[str, Any], overrides: Mapping[str, object]) -> dict[str, Any]:
    """The tables without what only training reads, and with the overrides in their places."""
    merged = {
        name: {key: table[key] for key in table if key not in OF_TRAINING.get(name, ())}
        if isinstance(table, dict)
        else table
        for name, table in tables.items()
    }
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        table = merged.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return merged
