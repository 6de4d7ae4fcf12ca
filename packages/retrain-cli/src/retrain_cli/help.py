"""The pages of help: one look for all commands."""

import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Row: TypeAlias = tuple[str, str | Text]


_WIDEST = 100

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

_MORE = (
    ("retrain COMMAND --help", "what a command takes, and its exit codes"),
    ("retrain flags [WORD]", "every flag, or those that mention a word"),
    ("--debug", "show the traceback of an error"),
    ("--version", "show the version"),
)


# Made by `scripts/generate_docs.py`, since the models of the configuration would double the time
# that the page takes.
_USUAL_FLAGS = Path(__file__).with_name("usual_flags.json")


def first_page(commands: Mapping[str, str]) -> str:
    """The page that teaches: what it is, examples, commands with a line each, the usual flags."""
    usual = json.loads(_USUAL_FLAGS.read_text(encoding="utf-8"))
    usual_flags = [(flag, described(text, facts)) for flag, text, facts in usual]
    return _drawn(
        Text(_INTRODUCTION),
        titled("Examples", _EXAMPLES),
        titled("Commands", commands.items()),
        titled("Usual flags", usual_flags),
        titled("More", _MORE),
    )


def command_page(text: str, usage: str, sections: Iterable[tuple[str, Iterable[Row]]]) -> str:
    """The page of a command.

    Args:
      text: what it does; its first paragraph stands above the usage, all others below.
      usage: how it is written.
      sections: titles with their rows.
    """
    summary, _, rest = inspect.cleandoc(text).partition("\n\n")
    usage_line = Table.grid(padding=(0, 1))
    usage_line.add_row("Usage:", Text(usage))
    paragraphs = [" ".join(part.split()) for part in rest.split("\n\n") if part]
    return _drawn(
        Text(" ".join(summary.split()) + "\n"),
        usage_line,
        Text("".join(f"\n{paragraph}\n" for paragraph in paragraphs)),
        *(titled(title, rows) for title, rows in sections),
    )


def described(text: str, facts: str) -> Text:
    """The text of a row, then dim what else there is to know."""
    return Text.assemble(text, (facts, "dim"))


def page_console() -> Console:
    """A console as wide as the terminal, but no wider than can be read."""
    console = Console(highlight=False, markup=False)
    console.width = min(console.width, _WIDEST)
    return console


def _drawn(*parts: RenderableType) -> str:
    console = page_console()
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    lines = captured.get().splitlines()
    return "\n".join(line.rstrip() for line in lines).rstrip()


def titled(title: str, rows: Iterable[Row], text: str = "") -> RenderableType:
    """A section of a page: its title, a text beside it, and a table of two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for left, right in rows:
        table.add_row(Text(left), Text(right) if isinstance(right, str) else right)
    heading = Text.assemble((title, "bold"), f"  {text}" if text else "")
    return Group(heading, Padding(table, (0, 0, 1, 2)))
