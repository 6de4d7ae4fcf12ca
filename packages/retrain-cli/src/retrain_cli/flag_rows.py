"""The rows of help pages for the keys of the configuration, made from its models."""

from collections.abc import Sequence

from retrain_backends.config.describe import FieldDoc, SectionDoc
from retrain_backends.errors import ConfigError
from retrain_cli.help import Row, described, page_console, titled

_EMPTY = ("", "{}", "[]", "false")  # defaults that are not shown


def short_flag(field: FieldDoc) -> tuple[str, str, str]:
    """A flag, the first sentence of its description, its default and its built-in names."""
    return f"--{field.flag}", field.description.split(". ")[0].rstrip("."), _facts(field)


def print_flags(sections: Sequence[SectionDoc], word: str) -> None:
    """Print the flags of every table; with `word`, only tables and keys that mention it."""
    chosen = [(section, _mentioning(section, word.lower())) for section in sections]
    shown = [(section, fields) for section, fields in chosen if fields]
    if not shown:
        raise ConfigError(f"{word}: no flag mentions it; `retrain flags` lists them all")
    console = page_console()
    for section, fields in shown:
        console.print(titled(section.header, map(flag_row, fields), section.description))
    console.print(
        "Every flag also works with its table in front: --lr is --training-lr. A flag that is true "
        "or false may stand alone, or as --no-data-shuffle."
    )


def flag_row(field: FieldDoc) -> Row:
    """A flag with the full description of its key."""
    name = f"--{field.flag}" if field.flag else field.key
    return name, described(field.description, _facts(field))


def _facts(field: FieldDoc) -> str:
    """The default and the built-in names."""
    default = "required" if field.default is None else field.default.strip('"')
    names = [name for name in field.names if name != default]
    facts = "" if default in _EMPTY else f" [{default.strip('[]')}]"
    return f"{facts} (or {', '.join(names)})" if names else facts


def _mentioning(section: SectionDoc, word: str) -> tuple[FieldDoc, ...]:
    if word in section.name:
        return section.fields
    return tuple(
        field
        for field in section.fields
        if word in f"{field.flag} {field.key} {field.description}".lower()
    )
