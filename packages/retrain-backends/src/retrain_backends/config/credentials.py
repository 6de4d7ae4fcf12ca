"""Keeps keys and passwords out of the configuration, which is written to files, and of messages."""

import re
from collections.abc import Iterator

from pydantic import JsonValue
from pydantic_core import PydanticCustomError

# `eos_token` and `judge_api_key_var` are not credentials.
_NAME = (
    r"\w*?(?:api|access|secret|private)[_-]?key|\w*?(?:secret|password|passwd|passphrase)"
    r"|authorization|credentials?|(?:\w*?(?:access|auth|api|bearer|refresh|session|hf)[_-]?)?token"
)
_KEY = re.compile(rf"(?:{_NAME})", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://).*@")
_QUERY = re.compile(r"""(?<=://)([^\s?#"'`]*)([?#])[^\s"'`]+""")
_ASSIGNED = re.compile(
    rf"""\b({_NAME})(["']?\s*[=:]\s*)(?:bearer\s+)?("[^"]*"|'[^']*'|[^\s"',;&}}]+)""", re.IGNORECASE
)


def without_credentials(text: str) -> str:
    """The text without logins and queries of addresses, and without values of keys."""
    shown = _QUERY.sub(r"\1\2...", _LOGIN.sub("...@", text))
    return _ASSIGNED.sub(r"\1\2***", shown)


def refuse_credentials(table: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The table; raises a validation error if it contains a key or a password at any depth."""
    for name in _credentials(table):
        raise PydanticCustomError(
            "credentials",
            "contains `{name}`, which would be written to files; set an environment variable, such"
            " as {variable} (it may be in .env), which the code reads",
            {"name": name, "variable": re.sub(r"\W", "_", name.rpartition(".")[2]).upper()},
        )
    return table


def _credentials(value: JsonValue, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            below = f"{path}.{name}" if path else name
            if isinstance(inner, str) and inner and _KEY.fullmatch(name):
                yield below
            yield from _credentials(inner, below)
    elif isinstance(value, list):
        for inner in value:
            yield from _credentials(inner, path)
    elif isinstance(value, str) and "://" in value and without_credentials(value) != value:
        yield path
