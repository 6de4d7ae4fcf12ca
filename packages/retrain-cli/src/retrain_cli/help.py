"""The pages of `retrain --help` and `retrain flags`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retrain_backends.errors import ConfigError

if TYPE_CHECKING:
    from retrain_backends.config.describe import FieldDoc, SectionDoc

_WIDEST = 100
_EMPTY = ("", "{}", "[]")  # defaults that say nothing

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
    ("retrain campaign.toml --resume", "go on with the newest campaign of that file"),
)

# The flags that most runs use; `retrain flags` has them all. `scripts/generate_docs.py` makes the
# file, because the models of the configuration would double the time that the page takes.
_USUAL_FLAGS = Path(__file__).with_name("usual_flags.json")


def print_help(commands: Mapping[str, str]) -> None:
    """The page that teaches: what it is, examples, commands, the usual flags, where to go on."""
    usual = json.loads(_USUAL_FLAGS.read_text(encoding="utf-8"))
    others = [
        ("retrain flags [WORD]", "every flag, or those that mention a word"),
        ("--debug", "show the traceback of an error"),
        ("--version", "show the version"),
    ]
    console = _console()
    console.print(_INTRODUCTION)
    for title, rows in (
        ("Examples", _texts(_EXAMPLES)),
        ("Commands", _texts(commands.items())),
        ("Usual flags", ((flag, _described(text, facts)) for flag, text, facts in usual)),
        ("More", _texts(others)),
    ):
        console.print(_titled(title, rows))


def print_flags(sections: "Sequence[SectionDoc]", word: str) -> None:
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


def _texts(rows: Iterable[tuple[str, str]]) -> Iterable[tuple[str, Text]]:
    return ((left, Text(right)) for left, right in rows)


def _titled(title: str, rows: Iterable[tuple[str, Text]], text: str = "") -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for left, right in rows:
        table.add_row(Text(left), right)
    heading = Text.assemble((title, "bold"), f"  {text}" if text else "")
    return Group(heading, Padding(table, (0, 0, 1, 2)))


def short_flag(field: "FieldDoc") -> tuple[str, str, str]:
    """A flag, the first sentence of its description, and its default and built-in names."""
    return f"--{field.flag}", field.description.split(". ")[0].rstrip("."), _facts(field)


def _flag_row(field: "FieldDoc") -> tuple[str, Text]:
    name = f"--{field.flag}" if field.flag else field.key
    return name, _described(field.description, _facts(field))


def _described(text: str, facts: str) -> Text:
    return Text.assemble(text, (facts, "dim"))


def _facts(field: "FieldDoc") -> str:
    """The default and the built-in names."""
    default = "required" if field.default is None else field.default.strip('"')
    names = [name for name in field.names if name != default]
    facts = "" if default in _EMPTY else f" [{default}]"
    return f"{facts} (or {', '.join(names)})" if names else facts


def _mentioning(section: "SectionDoc", word: str) -> "tuple[FieldDoc, ...]":
    if word in section.name:
        return section.fields
    return tuple(
        field
        for field in section.fields
        if word in f"{field.flag} {field.key} {field.description}".lower()
    )
