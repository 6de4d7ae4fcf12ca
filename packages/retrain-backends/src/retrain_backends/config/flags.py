"""Command-line flags, generated from the fields of the models.

Every field has the flag `--section-key`; those of `SHORT_FLAG_SECTIONS`, `[resume] from` and
`[campaign] seeds` also have a short one (`--lr`, `--resume`, `--seeds`). The value is the next
argument or follows `=`; a boolean flag needs no value and has a `--no-` form. Optional tables have
a `--no-` form too: `--no-campaign` trains a single run from the file of a campaign.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from retrain_backends.config.describe import FieldDoc, sections
from retrain_backends.config.nearest import nearest
from retrain_backends.config.other_tools import known_key, note_on, why_absent

_BOOLEANS = {"true": True, "false": False}
_OPTIONAL = {f"--no-{name}": name for name in ("campaign", "squeeze")}
_RESUME = "resume.from"
_ALL_FLAGS = "; `retrain flags` lists them all"
# `training.lr=1e-3`, as in Hydra and OmegaConf.
_ASSIGNMENT = re.compile(r"[+~]{0,2}[A-Za-z_][\w.@-]*=.*", re.DOTALL)


@dataclass
class Arguments:
    """A parsed command line.

    Attributes:
      paths: arguments that are neither flags nor values of flags.
      overrides: values by `section.key`.
      flags: the flag that was typed for each override.
      own: values of the flags that the command adds, by flag; True for a flag without a value.
      dropped: tables to leave out.
      resume_alone: whether `--resume` was given without a directory.
      problems: a line for each mistake.
    """

    paths: list[str] = field(default_factory=list)
    overrides: dict[str, object] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    own: dict[str, str | bool] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    resume_alone: bool = False
    problems: list[str] = field(default_factory=list)


@cache
def flag_fields() -> Mapping[str, FieldDoc]:
    """The field of every accepted flag, by the flag's name without dashes."""
    fields = [doc for section in sections() for doc in section.fields if doc.flag]
    long_names = {doc.path.replace(".", "-").replace("_", "-"): doc for doc in fields}
    return {**long_names, **{doc.flag: doc for doc in fields}}


def read_arguments(
    arguments: Sequence[str],
    own: Mapping[str, bool] | None = None,
    fields: Mapping[str, FieldDoc] | None = None,
) -> Arguments:
    """Parse a command line into paths and overrides; mistakes are collected, not raised.

    Args:
      arguments: the words after the name of the command.
      own: additional flags of the command, with dashes, and whether each takes a value.
      fields: the field of every flag; default: `flag_fields`.
    """
    return _Reader(own or {}, flag_fields() if fields is None else fields).read(arguments)


class _Reader:
    """Reads one command line; see `read_arguments`."""

    def __init__(self, own: Mapping[str, bool], fields: Mapping[str, FieldDoc]) -> None:
        self._own, self._fields = own, fields
        self._result = Arguments()

    def read(self, arguments: Sequence[str]) -> Arguments:
        rest = iter(_with_next(arguments))
        for argument, following in rest:
            if not argument.startswith("-"):
                self._read_word(argument)
            elif argument in _OPTIONAL:
                self._result.dropped.add(_OPTIONAL[argument])
            elif self._read_flag(argument, following):
                next(rest)
        return self._result

    def _read_word(self, word: str) -> None:
        if not _ASSIGNMENT.fullmatch(word) or word.endswith(".toml") or Path(word).exists():
            self._result.paths.append(word)
            return
        name, _, value = word.partition("=")
        hint = self._translated(name, value) or self._similar(name) or _ALL_FLAGS
        self._result.problems.append(f"{word}: a key is given as a flag{hint}")

    def _read_flag(self, argument: str, following: str | None) -> bool:
        """Record one flag; returns whether the following argument is its value."""
        flag, equals, value = argument.partition("=")
        given = value if equals else None
        name = flag.removeprefix("--")
        if flag in self._own:
            return self._read_own(flag, given, following)
        if flag.startswith("--") and (doc := self._fields.get(name)):
            return self._read_key(doc, flag, given, following)
        if doc := self._fields.get(name.removeprefix("no-")):
            return self._read_negation(doc, argument)
        has_value = given is None and following is not None and not following.endswith(".toml")
        self._report_unknown(flag, following if has_value else given)
        return has_value

    def _read_key(self, doc: FieldDoc, flag: str, given: str | None, following: str | None) -> bool:
        if given is not None:
            self._record(doc, flag, given)
        elif doc.kind == "boolean" and following not in _BOOLEANS:
            self._set(doc, flag, True)
        elif doc.path == _RESUME and (following is None or following.endswith(".toml")):
            self._result.resume_alone = True
        elif following is None:
            self._result.problems.append(f"{flag}: needs a value, {doc.allowed}")
        else:
            self._record(doc, flag, following)
            return True
        return False

    def _read_own(self, flag: str, value: str | None, following: str | None) -> bool:
        if not self._own[flag]:
            self._result.own[flag] = True
            if value is not None:
                self._result.problems.append(f"{flag}: takes no value")
            return False
        given = following if value is None else value
        if not given:
            self._result.problems.append(f"{flag}: needs a value")
            return False
        self._result.own[flag] = given
        return value is None

    def _read_negation(self, doc: FieldDoc, argument: str) -> bool:
        if doc.kind == "boolean" and "=" not in argument:
            self._set(doc, argument, False)
        else:
            self._result.problems.append(
                f"{argument}: unknown flag; --{doc.flag} takes {doc.allowed}"
            )
        return False

    def _record(self, doc: FieldDoc, flag: str, text: str) -> None:
        self._set(doc, flag, _value(doc, text))
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._result.problems.append(f"{flag}: the value is not UTF-8 text")

    def _set(self, doc: FieldDoc, flag: str, value: object) -> None:
        self._result.overrides[doc.path] = value
        self._result.flags[doc.path] = flag

    def _report_unknown(self, flag: str, value: str | None) -> None:
        name = _normal(flag)
        if name in self._fields:
            hint = f"; did you mean --{name}?"
        else:
            hint = self._translated(flag, value) or self._similar(flag) or _ALL_FLAGS
        self._result.problems.append(f"{flag}: unknown flag{hint}")

    def _translated(self, word: str, value: str | None) -> str:
        """The hint for a key with dots or for another tool's name, if there is one."""
        by_path = {doc.path: doc for doc in self._fields.values()}
        doc = self._fields.get(_normal(word)) or by_path.get(known_key(word) or "")
        if doc is not None:
            return f"; here it is `--{doc.flag} {_example(doc, value)}`{note_on(doc.path)}"
        if reason := why_absent(word):
            return "; ".join(
                ["", reason, *(f"did you mean --{name}?" for name in self._ending(word)[:1])]
            )
        return ""

    def _similar(self, word: str) -> str:
        """A hint with at most three flags: the most similar one, and those that end in the word."""
        similar = nearest(_normal(word), [*self._fields, *(name[2:] for name in self._own)])
        names = list(dict.fromkeys([*([similar] if similar else []), *self._ending(word)]))[:3]
        return f"; did you mean {' or '.join(f'--{name}' for name in names)}?" if names else ""

    def _ending(self, word: str) -> list[str]:
        """The flags that end in a word, shortest first."""
        flags = sorted(
            {doc.flag for doc in self._fields.values()}, key=lambda flag: (len(flag), flag)
        )
        return [flag for flag in flags if flag.endswith(f"-{_normal(word)}")]


def _normal(word: str) -> str:
    """A word in the form of a flag's name."""
    return word.lstrip("-+~").replace("_", "-").replace(".", "-").lower()


def _with_next(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each argument with the next one, or None if that cannot be a value."""
    following_ones = [*arguments, None][1:]
    for argument, following in zip(arguments, following_ones, strict=True):
        usable = following is not None and not following.startswith("--")
        yield argument, following if usable else None


def _value(doc: FieldDoc, text: str) -> object:
    """The value of a flag, converted to the field's type; invalid text is left to validation."""
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


def _example(doc: FieldDoc, value: str | None) -> str:
    """An example value for a flag: the given one if it fits, else the default."""
    numeric = doc.kind in ("integer", "number")
    fits = not (numeric and isinstance(_value(doc, value or ""), str))
    if value and fits and (not doc.names or value in doc.names):
        return value
    default = (doc.default or "").strip('"')
    return default or {"integer": "N", "number": "X"}.get(doc.kind, "VALUE")
