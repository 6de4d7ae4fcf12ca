"""The choice of the command: `retrain run.toml` and `retrain --lr 1e-3` both mean `run`."""

import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from retrain_backends.errors import ConfigError
from retrain_cli.command import HELP_NAMES, Command

_OWN_FLAGS = (*HELP_NAMES, "--version")


class Group(click.Group):
    """A group of commands with a help page in the common layout."""

    command_class = Command

    def get_help(self, ctx: click.Context) -> str:
        """The help page."""
        from retrain_cli.help import command_page

        usage = f"{ctx.command_path} COMMAND"
        return command_page(self.help or "", usage, [("Commands", list(self.summaries().items()))])

    def summaries(self) -> dict[str, str]:
        """The first paragraph of the help text of each command."""
        texts = {name: command.help or "" for name, command in self.commands.items()}
        return {name: " ".join(text.partition("\n\n")[0].split()) for name, text in texts.items()}


class RunByDefault(Group):
    """The `retrain` command. A first argument that is not a command is a file for `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `run` if the first argument is not a command."""
        first = args[0] if args else ""
        completed = ctx.resilient_parsing and not args
        if first in self.commands or first in _OWN_FLAGS or completed:
            return super().parse_args(ctx, args)
        if args and not first.startswith("-") and not _may_be_file(first):
            raise _unknown_word(first, list(self.commands))
        return super().parse_args(ctx, ["run", *args])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it without a message."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002
        """The first help page, with examples and the usual flags."""
        from retrain_cli.help import first_page

        return first_page(self.summaries())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, the options of `run`, or a file."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            return [*found, *self.commands["run"].shell_complete(ctx, incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


def _may_be_file(word: str) -> bool:
    path = Path(word)
    return path.exists() or bool(path.suffix) or os.sep in word or "/" in word or "=" in word


def _unknown_word(word: str, commands: list[str]) -> ConfigError:
    from retrain_backends.config import did_you_mean

    hint = did_you_mean(word, commands, "`retrain {}`")
    known = f"; the commands are {', '.join(commands)}"
    return ConfigError(f"{word}: neither a file nor a command{hint or known}")
