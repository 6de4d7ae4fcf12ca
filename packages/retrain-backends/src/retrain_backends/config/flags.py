"""Command-line flags, made from the fields of the models.

Every field is the flag `--section-key`; those of `SHORT_FLAG_SECTIONS` and `[resume] from` are
also flags by their own name (`--lr`, `--resume`). A flag takes its value from the next argument or
after `=`; a flag of a true-or-false field may stand alone, and has a `--no-` form. So has a table
that need not be there: `--no-campaign` does a single run from the file of a campaign.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from retrain_backends.config.describe import FieldDoc, sections
from retrain_backends.config.nearest import nearest

_BOOLEANS = {"true": True, "false": False}
_OPTIONAL = {f"--no-{name}": name for name in ("campaign", "squeeze")}


@dataclass
class Arguments:
    """A command line taken apart.

    `overrides` is keyed `section.key`, `flags` names the flag that was typed for each, `dropped`
    are tables to leave out, and `problems` holds one line for each mistake.
    """

    paths: list[str] = field(default_factory=list)
    overrides: dict[str, object] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


@cache
def flag_fields() -> Mapping[str, FieldDoc]:
    """The field behind every accepted flag, by the flag's name without dashes."""
    fields = [doc for section in sections() for doc in section.fields if doc.flag]
    long_names = {doc.path.replace(".", "-").replace("_", "-"): doc for doc in fields}
    return {**long_names, **{doc.flag: doc for doc in fields}}


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """Take a command line apart into paths and overrides; mistakes are collected, not raised."""
    result = Arguments()
    rest = iter(_with_next(arguments))
    for argument, following in rest:
        if not argument.startswith("-"):
            result.paths.append(argument)
        elif argument in _OPTIONAL:
            result.dropped.add(_OPTIONAL[argument])
        elif _read_flag(result, argument, following):
            next(rest)
    return result


def _with_next(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each argument with the one after it, when that one can be a value."""
    following_ones = [*arguments, None][1:]
    for argument, following in zip(arguments, following_ones, strict=True):
        usable = following is not None and not following.startswith("--")
        yield argument, following if usable else None


def _read_flag(result: Arguments, argument: str, following: str | None) -> bool:
    """Record one flag; True if it used up the following argument."""
    flag, equals, value = argument.partition("=")
    name = flag.removeprefix("--")
    doc = flag_fields().get(name)
    if doc is None and (doc := flag_fields().get(name.removeprefix("no-"))):
        return _read_negation(result, doc, argument)
    if doc is None or not flag.startswith("--"):
        result.problems.append(f"{flag}: unknown flag{_suggestion(flag)}")
        return not equals and following is not None and not following.endswith(".toml")
    if equals:
        _record(result, doc, flag, value)
        return False
    if doc.kind == "boolean" and following not in _BOOLEANS:
        result.overrides[doc.path] = True
        result.flags[doc.path] = flag
        return False
    if following is None:
        result.problems.append(f"{flag}: needs a value, {doc.allowed}")
        return False
    _record(result, doc, flag, following)
    return True


def _read_negation(result: Arguments, doc: FieldDoc, argument: str) -> bool:
    if doc.kind == "boolean" and "=" not in argument:
        result.overrides[doc.path] = False
        result.flags[doc.path] = argument
    else:
        result.problems.append(f"{argument}: unknown flag; --{doc.flag} takes {doc.allowed}")
    return False


def _record(result: Arguments, doc: FieldDoc, flag: str, text: str) -> None:
    result.overrides[doc.path] = _value(doc, text)
    result.flags[doc.path] = flag
    if any("\ud800" <= character <= "\udfff" for character in text):
        result.problems.append(f"{flag}: the value is not UTF-8 text")


def _value(doc: FieldDoc, text: str) -> object:
    """The text of a flag as its field's type; a text that does not fit is left to validation."""
    try:
        match doc.kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return _BOOLEANS.get(text.lower(), text)
            case "array":
                inside = text if text.startswith("[") else f"[{text}]"
                return tomllib.loads(f"value = {inside}")["value"]
            case _:
                return text
    except ValueError:
        return text


def _suggestion(flag: str) -> str:
    """At most three flags: the most similar one, and those that end in what was typed."""
    wanted = flag.lstrip("-").replace("_", "-").replace(".", "-").lower()
    if wanted in flag_fields():
        return f"; did you mean --{wanted}?"
    shown = sorted((doc.flag for doc in set(flag_fields().values())), key=len)
    endings = [name for name in shown if name.endswith(f"-{wanted}")]
    similar = nearest(wanted, list(flag_fields()))
    found = list(dict.fromkeys([*([similar] if similar else []), *endings]))[:3]
    if not found:
        return "; `retrain flags` lists them all"
    return f"; did you mean {' or '.join(f'--{name}' for name in found)}?"
