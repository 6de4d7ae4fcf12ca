"""Looking up a name in a table, with errors that list the names and suggest the nearest."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

Row = TypeVar("Row")


def unknown_name(setting: str, name: str, allowed: Collection[str]) -> ValueError:
    """The error for a `name` that is not allowed; it lists those that are and suggests one."""
    nearest = get_close_matches(name.lower(), allowed, n=1)
    hint = f"; did you mean `{nearest[0]}`?" if nearest else ""
    return ValueError(f"unknown {setting} `{name}`: use one of {', '.join(sorted(allowed))}{hint}")


def look_up(setting: str, name: str, table: Mapping[str, Row]) -> Row:
    """The row of `table` called `name`, or a ValueError that lists the names of the table."""
    if name not in table:
        raise unknown_name(setting, name, table.keys())
    return table[name]
