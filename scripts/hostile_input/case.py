"""A case: one command with its input."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, TypeAlias


class Special(Enum):
    """What is found where a file is expected; UNREADABLE fails when it is read."""

    ABSENT = "nothing"
    DIRECTORY = "a directory"
    FIFO = "a fifo"
    LOOP = "a symbolic link to itself"
    DEVICE = "a device without an end"
    UNREADABLE = "a file that cannot be read"
    SOCKET = "a socket"


@dataclass(frozen=True)
class Case:
    """One command with its input.

    Attributes:
      group: kind of input.
      name: what is wrong with it.
      arguments: of the command `retrain`.
      files: contents by path in the working directory.
      environment: variables that are set.
      valid: whether it must be accepted; None if either answer is right.
      named: one of these stands in the message of a refusal.
      codes: exit codes beside 0 and 2.
      silent: a refusal may be without an `error:` line.
      copied: directory of the fixtures that is copied into the working directory.
    """

    group: str
    name: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes | Special] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    valid: bool | None = None
    named: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    silent: bool = False
    copied: str = ""


def explained(
    group: str,
    name: str,
    configuration: bytes,
    files: Mapping[str, bytes | Special] | None = None,
    **others: Any,
) -> Case:
    """A case of `retrain explain run.toml` with that configuration, beside other files."""
    everything = {**(files or {}), "run.toml": configuration}
    return Case(group, name, ("explain", "run.toml"), everything, **others)


Generator: TypeAlias = Callable[[Random, Path], Iterator[Case]]
"""Makes the cases of a group from a random generator and the directory of the fixtures."""
