"""Reads and writes TOML files."""

import re
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from retrain_backends.config.nearest import did_you_mean
from retrain_backends.config.run import RunConfig
from retrain_backends.config.section import DEEPEST, is_too_deep
from retrain_backends.errors import ConfigError

_POSITION = re.compile(r"^(?P<reason>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)$", re.S)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    A byte-order mark is skipped.

    Raises:
      ConfigError: there is no such file, it cannot be read, is not TOML in UTF-8, or is nested
        too deeply.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a directory, not a TOML file{_toml_files_hint(path)}")
    if path.exists() and not (path.is_file() or _is_descriptor(path)):
        raise ConfigError(f"{path}: is a device or a pipe, not a TOML file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_similar_file(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: is not UTF-8 text; save it as UTF-8") from error
    try:
        tables = tomllib.loads(text)
    except ValueError as error:  # bad syntax, or an integer of thousands of digits
        raise ConfigError(f"{path}{_syntax_problem(str(error), text)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply") from error
    for name, table in tables.items():
        for key, value in table.items() if isinstance(table, dict) else [("", table)]:
            if is_too_deep(value):
                place = f"[{name}] {key}".rstrip()
                raise ConfigError(f"{path}: {place} is nested more than {DEEPEST} tables deep")
    return tables


def _is_descriptor(path: Path) -> bool:
    """Whether it is a pipe of a shell, as in `retrain <(command)`; other pipes may never end."""
    return path.is_fifo() and path.is_relative_to("/dev")


def dump_config(config: RunConfig) -> str:
    """The whole configuration as TOML, with defaults; loading it gives an equal configuration."""
    tables = config.model_dump(by_alias=True)
    return tomli_w.dumps({name: table for name, table in tables.items() if table is not None})


def _syntax_problem(message: str, text: str) -> str:
    """`, line 3, column 5: reason: the line`, from the message of tomllib."""
    match = _POSITION.match(message)
    if "integer string conversion" in message:
        return ": has an integer of thousands of digits; the largest is 9223372036854775807"
    if match is None:  # "(at end of document)"
        return f": {_reason(message)}"
    number, column = int(match["line"]), match["column"]
    line = text.split("\n")[number - 1].strip()
    return f", line {number}, column {column}: {_reason(match['reason'])}: `{line[:80]}`"


def _reason(message: str) -> str:
    if message == "Invalid value":
        return 'invalid value (text needs quotes, as in key = "text")'
    return message[:1].lower() + message[1:]


def _similar_file(path: Path) -> str:
    folder = path.parent
    names = [file.name for file in folder.glob("*.toml")] if folder.is_dir() else []
    return did_you_mean(path.name, names, str(folder / "{}"))


def _toml_files_hint(folder: Path) -> str:
    first = min(folder.glob("*.toml"), default=None)
    return f"; did you mean {first}?" if first else ""
