"""The command classes of `retrain`: help pages and the parsing of options."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from retrain_backends.config.describe import FieldDoc
    from retrain_cli.help import Row

Rows: TypeAlias = Iterable[tuple[str, str]]
HELP_NAMES = ("-h", "--help")
_ABOVE = ("Arguments", "Examples")  # sections above the options
_SETTINGS = {"help_option_names": list(HELP_NAMES)}


class Command(click.Command):
    """A command with a help page in the common layout.

    Args:
      sections: further sections of the page by title, such as examples and exit codes.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Rows] | None = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("context_settings", _SETTINGS)
        super().__init__(*args, **kwargs)
        self.sections = sections or {}

    def get_help(self, ctx: click.Context) -> str:
        """The help page."""
        from retrain_cli.help import command_page

        usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
        return command_page(self.help or "", usage, self._page_sections(ctx))

    def _page_sections(self, ctx: click.Context) -> "list[tuple[str, Sequence[Row]]]":
        options = [(written(option, ctx), option.help or "") for option in self.own_options()]
        found: dict[str, Sequence[Row]] = {title: [*rows] for title, rows in self.sections.items()}
        above = [(title, found.pop(title)) for title in _ABOVE if title in found]
        if options:
            above.append(("Options", options))
        if fields := self.shown_fields():
            from retrain_cli.flag_rows import flag_row

            above.append(("Flags", [flag_row(field) for field in fields]))
        return [*above, *found.items()]

    def shown_fields(self) -> "list[FieldDoc]":
        """The keys of the configuration whose flags are on the help page."""
        return []

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Arguments first, then each option."""
        arguments = [param for param in self.params if isinstance(param, click.Argument)]
        pieces = [piece for param in arguments for piece in param.get_usage_pieces(ctx)]
        options = ((option, written(option, ctx)) for option in self.own_options())
        return [*pieces, *(text if option.required else f"[{text}]" for option, text in options)]

    def own_options(self) -> list[click.Option]:
        """The options of this command, without those made from keys."""
        return [param for param in self.params if isinstance(param, click.Option)]


class ConfigCommand(Command):
    """A command whose options include keys of the configuration.

    The arguments are parsed by `retrain_backends.config.read_arguments`, as in
    `python -m retrain_backends`, which reports all mistakes at once. The options of click serve
    help and completion only, and are made when click needs them.

    Args:
      keys: returns the field of each flag; default: all keys of a run.
      shown: the `section.key`s whose flags are on the help page.
    """

    def __init__(
        self,
        *args: Any,
        keys: "Callable[[], Mapping[str, FieldDoc]] | None" = None,
        shown: Iterable[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._keys, self._shown = keys, tuple(shown)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line into `arguments` and a value for each option of this command."""
        if not ctx.resilient_parsing and any(word in HELP_NAMES for word in args):
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        from retrain_backends.config import read_arguments

        own = {option.opts[-1]: option for option in self.own_options()}
        takes_value = {flag: not option.is_flag for flag, option in own.items()}
        read = read_arguments(args, takes_value, self._fields())
        ctx.params = {"arguments": read}
        for flag, option in own.items():
            given = read.own.get(flag, option.get_default(ctx))
            try:
                ctx.params[str(option.name)] = option.type_cast_value(ctx, given)
            except click.BadParameter as error:
                read.problems.append(f"{flag}: {error.message.lower().rstrip('.')}")
                ctx.params[str(option.name)] = None
        for argument in self.params:
            if isinstance(argument, click.Argument) and read.paths:
                ctx.set_parameter_source(str(argument.name), ParameterSource.COMMANDLINE)
        return []

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All options: those of this command, and one for each key."""
        from retrain_cli.options import options_of

        unique = {field.path: field for field in self._fields().values()}
        return [*super().get_params(ctx), *options_of(tuple(unique.values()))]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """As for other commands; all flags of the configuration are one piece."""
        return [*super().collect_usage_pieces(ctx), "[--flag value]..."]

    def shown_fields(self) -> "list[FieldDoc]":
        """The keys whose flags are on the help page."""
        if not self._shown and not self._keys:
            return []
        by_path = {field.path: field for field in self._fields().values()}
        return [by_path[path] for path in self._shown or by_path]

    def _fields(self) -> "Mapping[str, FieldDoc]":
        from retrain_backends.config.flags import flag_fields

        return self._keys() if self._keys else flag_fields()


def written(option: click.Option, ctx: click.Context) -> str:
    """An option as written in the usage line: `--from DIR`."""
    name = option.opts[-1]
    return name if option.is_flag else f"{name} {option.make_metavar(ctx)}"
