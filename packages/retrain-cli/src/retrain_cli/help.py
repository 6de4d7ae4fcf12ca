"""The pages of help: one look for all commands."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retrain_backends.config.describe import FieldDoc, SectionDoc, fields_by_path
from retrain_backends.errors import ConfigError

Row: TypeAlias = tuple[str, str] | FieldDoc

_WIDEST = 100
_EMPTY = ("", "{}", "[]", "false")  # defaults that say nothing

_INTRODUCTION = """\
Train a language model by reinforcement learning with verifiable rewards,
from one TOML file and one command.

Usage: retrain [PATH.toml] [--flag value]...
"""

_EXAMPLES = (
    ("retrain init", "write a first retrain.toml"),
    ("retrain", "train as ./retrain.toml says"),
    ("retrain my.toml", "train as another file says"),
    ("retrain my.toml --lr 1e-4 --seed 1", "the same with two keys changed"),
    ("retrain campaign.toml", "every condition under every seed, if the file has [campaign]"),
    ("retrain campaign.toml --resume", "resume the newest campaign of that file"),
)

# The flags that most runs use; `retrain flags` has them all.
_USUAL = (
    "model.model",
    "model.lora_rank",
    "backend.devices",
    "data.source",
    "algorithm.advantage_mode",
    "algorithm.transform_mode",
    "training.seed",
    "training.max_steps",
    "training.batch_size",
    "training.group_size",
    "training.max_tokens",
    "training.temperature",
    "training.lr",
    "logging.log_dir",
    "logging.wandb_project",
    "resume.from",
)
_MORE = (
    ("retrain COMMAND --help", "what a command takes, and its exit codes"),
    ("retrain flags [WORD]", "every flag, or those that mention a word"),
    ("--debug", "show the traceback of an error"),
    ("--version", "show the version"),
)


def first_page(commands: Mapping[str, str]) -> str:
    """The page that teaches: what it is, examples, commands with a line each, the usual flags."""
    usual = (_short_flag_row(fields_by_path()[path]) for path in _USUAL)
    return _drawn(
        Text(_INTRODUCTION),
        _titled("Examples", map(_row, _EXAMPLES)),
        _titled("Commands", map(_row, commands.items())),
        _titled("Usual flags", usual),
        _titled("More", map(_row, _MORE)),
    )


def command_page(text: str, usage: str, sections: Iterable[tuple[str, Iterable[Row]]]) -> str:
    """The page of a command.

    Args:
      text: what it does; its first paragraph stands above the usage, all others below.
      usage: how it is written.
      sections: titles with their rows: a text for each word, or keys of the configuration.
    """
    summary, _, rest = inspect.cleandoc(text).partition("\n\n")
    usage_line = Table.grid(padding=(0, 1))
    usage_line.add_row("Usage:", Text(usage))
    paragraphs = [" ".join(part.split()) for part in rest.split("\n\n") if part]
    return _drawn(
        Text(" ".join(summary.split()) + "\n"),
        usage_line,
        Text("".join(f"\n{paragraph}\n" for paragraph in paragraphs)),
        *(_titled(title, map(_row, rows)) for title, rows in sections),
    )


def print_flags(sections: Sequence[SectionDoc], word: str) -> None:
    """Every table with its keys as flags; with a word, those tables and keys that mention it."""
    chosen = [(section, _mentioning(section, word.lower())) for section in sections]
    shown = [(section, fields) for section, fields in chosen if fields]
    if not shown:
        raise ConfigError(f"{word}: no flag mentions it; `retrain flags` lists them all")
    console = _console()
    for section, fields in shown:
        console.print(_titled(section.header, map(_flag_row, fields), section.description))
    console.print(
        "Every flag also works with its table in front: --lr is --training-lr. A flag that is true "
        "or false may stand alone, or as --no-data-shuffle."
    )


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    console.width = min(console.width, _WIDEST)
    return console


def _drawn(*parts: RenderableType) -> str:
    console = _console()
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    lines = captured.get().splitlines()
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _row(row: Row) -> tuple[str, Text]:
    return _flag_row(row) if isinstance(row, FieldDoc) else (row[0], Text(row[1]))


def _short_flag_row(field: FieldDoc) -> tuple[str, Text]:
    """A flag with the first sentence of its description."""
    return f"--{field.flag}", _described(field, field.description.split(". ")[0].rstrip("."))


def _titled(title: str, rows: Iterable[tuple[str, Text]], text: str = "") -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for left, right in rows:
        table.add_row(Text(left), right)
    heading = Text.assemble((title, "bold"), f"  {text}" if text else "")
    return Group(heading, Padding(table, (0, 0, 1, 2)))


def _flag_row(field: FieldDoc) -> tuple[str, Text]:
    return f"--{field.flag}" if field.flag else field.key, _described(field, field.description)


def _described(field: FieldDoc, text: str) -> Text:
    """The text, then dim the default and the built-in names."""
    default = "required" if field.default is None else field.default.strip('"')
    names = [name for name in field.names if name != default]
    facts = "" if default in _EMPTY else f" [{default.strip('[]')}]"
    if names:
        facts += f" (or {', '.join(names)})"
    return Text.assemble(text, (facts, "dim"))


def _mentioning(section: SectionDoc, word: str) -> tuple[FieldDoc, ...]:
    if word in section.name:
        return section.fields
    return tuple(
        field
        for field in section.fields
        if word in f"{field.flag} {field.key} {field.description}".lower()
    )
