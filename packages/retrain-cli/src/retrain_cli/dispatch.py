"""Which command a command line means: `retrain run.toml` and `retrain --lr 1e-3` both train."""

import os
from pathlib import Path
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

from retrain_backends.errors import ConfigError

_OWN_FLAGS = ("-h", "--help", "--version")


class RunByDefault(TyperGroup):
    """The `retrain` command itself. A first word that is no command is a file to train from."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` in front of everything that does not begin with a command."""
        first = args[0] if args else ""
        if first in self.commands or first in _OWN_FLAGS:
            return super().parse_args(ctx, args)
        if args and not first.startswith("-") and not _may_be_file(first):
            raise _unknown_word(first, list(self.commands))
        return super().parse_args(ctx, ["run", *args])

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Show our own page, which teaches, instead of a list of options."""
        from retrain_cli.help import print_help

        print_help({name: command.help or "" for name, command in self.commands.items()})


class TakesEverything(TyperCommand):
    """A command whose flags are the fields of the configuration; it reads them itself."""

    settings: ClassVar[dict[str, Any]] = {"allow_extra_args": True, "ignore_unknown_options": True}

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the page of `retrain` itself."""
        ctx.parent.command.format_help(ctx.parent, formatter)


class HasItsOwnHelp:
    """Settings of a command that reads all its arguments itself, `--help` too."""

    settings: ClassVar[dict[str, Any]] = {**TakesEverything.settings, "help_option_names": []}


def _may_be_file(word: str) -> bool:
    path = Path(word)
    return path.exists() or bool(path.suffix) or os.sep in word or "/" in word


def _unknown_word(word: str, commands: list[str]) -> ConfigError:
    from retrain_backends.config import did_you_mean

    hint = did_you_mean(word, commands, "`retrain {}`")
    known = f"; the commands are {', '.join(commands)}"
    return ConfigError(f"{word}: neither a file nor a command{hint or known}")
