"""`python -m retrain_squeeze PATH [--flag value]...`, which is also `retrain squeeze`."""

import tomllib
from argparse import (
    ArgumentError,
    ArgumentParser,
    BooleanOptionalAction,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from retrain_squeeze.config import SqueezeJob
from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.load import load_job
from retrain_squeeze.problems import allowed, did_you_mean, sections, toml_value

REMOTE = "tinker://"
_ADAPTER = ("squeeze", "adapter_path")  # no flag: the command line begins with it

_METAVARS: Mapping[object, str] = {int: "N", float: "SHARE"}

_DESCRIPTION = """\
LoRA-Squeeze: the rank that a trained adapter really needs, and the adapter at that rank.

examples:
  {program} logs/quickstart/final                      which rank is enough?
  {program} logs/quickstart/final --output-path small  write the adapter at that rank
  {program} logs/quickstart/final --output-path small --compress-to 8
  {program} squeeze.toml                               the same from a file
  {program} logs/quickstart/final --json               the figures for a program
"""

_EPILOG = """\
the same in a file:
  [squeeze]
  adapter_path = "logs/quickstart/final"
  min_variance_retention = 0.99
  output_path = "small"

exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted
"""


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    job: SqueezeJob
    as_json: bool


def read_command_line(arguments: Sequence[str], program: str) -> Request:
    """Take a command line apart; `--help` prints the page that teaches, and exits.

    Args:
      arguments: without the program's name.
      program: how the user calls it, for the help page.

    Raises:
      SqueezeConfigError: holds a line for every mistake in the flags and the file.
    """
    parser, fields = _parser(program)
    try:
        given, unknown = parser.parse_known_args(arguments)
    except ArgumentError as error:
        name = error.argument_name or program
        raise SqueezeConfigError(f"{name}: {error.message}; `{program} --help` has all") from None
    problems = list(_unknown(unknown, list(fields)))
    if given.path is None:
        problems.append(f"name an adapter's directory or a TOML file; `{program} --help` has more")
    values = {name: getattr(given, name.replace("-", "_")) for name in fields}
    overrides = {
        ".".join(fields[name]): _value(fields[name], text)
        for name, text in values.items()
        if text is not None
    }
    flags = {".".join(fields[name]): f"--{name}" for name in values}
    try:
        job = _job(given.path, overrides, flags) if given.path is not None else None
    except SqueezeConfigError as error:
        problems += error.problems
    else:
        if job is not None and not problems:
            return Request(job, given.json)
    raise SqueezeConfigError(*problems)


def _job(path: str, overrides: dict[str, object], flags: Mapping[str, str]) -> SqueezeJob:
    if path.startswith(REMOTE) or Path(path).is_dir():
        adapter = ".".join(_ADAPTER)
        return load_job(None, {**overrides, adapter: path}, {**flags, adapter: "PATH"})
    if Path(path).suffix != ".toml" and not Path(path).exists():
        raise SqueezeConfigError(f"{path}: no such directory or file")
    return load_job(Path(path), overrides, flags)


def _parser(program: str) -> tuple[ArgumentParser, dict[str, tuple[str, str]]]:
    """The parser, and the table and key behind every flag."""
    parser = ArgumentParser(
        prog=program,
        usage=f"{program} PATH [--flag value]...",
        description=_DESCRIPTION.format(program=program),
        epilog=_EPILOG,
        formatter_class=partial(RawDescriptionHelpFormatter, max_help_position=32),
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="the adapter: a PEFT directory or a tinker:// path; or a TOML file",
    )
    fields = {}
    for section, kind in sections().items():
        for key, info in kind.model_fields.items():
            if (section, key) != _ADAPTER:
                fields[key.replace("_", "-")] = (section, key)
                parser.add_argument(f"--{key.replace('_', '-')}", **_flag(section, key, info))
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    return parser, fields


def _flag(section: str, key: str, info: FieldInfo) -> dict[str, Any]:
    described = (info.description or "").replace("%", "%%")
    default = toml_value(info.get_default()).strip('"')
    shown = f"{described} [{default}]" if default not in ("", "[]", "false", "0") else described
    if info.annotation is bool:
        return {"action": BooleanOptionalAction, "default": None, "help": shown}
    metavar = "N,N" if "list" in allowed(section, key) else _METAVARS.get(info.annotation, "TEXT")
    return {"metavar": metavar, "help": shown}


def _unknown(arguments: Sequence[str], names: list[str]) -> Iterator[str]:
    """A line for each argument that the parser did not know, but for values of unknown flags."""
    for argument, before in zip(arguments, ["", *arguments], strict=False):
        name = argument.partition("=")[0]
        if argument.startswith("-"):
            wanted = name.lstrip("-").replace("_", "-")
            hint = did_you_mean(wanted, [*names, "json"], "--{}")
            yield f"{name}: unknown flag{hint or '; --help lists them all'}"
        elif not before.startswith("-") or "=" in before:
            yield f"{argument}: one adapter or file at a time"


def _value(field: tuple[str, str], given: object) -> object:
    """The text of a flag as its field's type; a text that does not fit is left to validation."""
    annotation = sections()[field[0]].model_fields[field[1]].annotation
    if annotation is str or not isinstance(given, str):
        return given
    is_list = annotation not in (int, float) and not given.startswith("[")
    try:
        return tomllib.loads(f"value = {f'[{given}]' if is_list else given}")["value"]
    except ValueError:
        return given
