"""The click options for the keys of the configuration, made from its models."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import click
from click.shell_completion import CompletionItem

from retrain_backends.config.describe import FieldDoc

_METAVARS = {"integer": "N", "number": "X", "array": "LIST", "": "NAME"}
# Suffixes of keys that are paths, and what the shell completes them with.
_PATHS = {"_dir": "dir", "directory": "dir", "from": "dir", "_path": "file", "path": "file"}


class KeyType(click.ParamType):
    """The type of one key; values are checked by the models of the configuration."""

    def __init__(self, field: FieldDoc) -> None:
        self.name = field.kind or "name"
        self._field = field

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The built-in names, or the shell's own completion of paths."""
        names = self._field.names
        if not names:
            kinds = (kind for end, kind in _PATHS.items() if self._field.key.endswith(end))
            return [CompletionItem(incomplete, type=kind) for kind in kinds][:1]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@cache
def options_of(fields: Iterable[FieldDoc]) -> tuple[click.Option, ...]:
    """One option for each key."""
    return tuple(map(_option, fields))


def _option(field: FieldDoc) -> click.Option:
    name = field.path.replace(".", "_")
    flag = f"--{field.flag}"
    attributes: dict[str, Any] = {"help": field.description}
    if field.kind == "boolean":
        return click.Option([name, f"{flag}/--no-{field.flag}"], default=None, **attributes)
    metavar = _METAVARS.get(field.kind, "TEXT")
    return click.Option([name, flag], type=KeyType(field), metavar=metavar, **attributes)
