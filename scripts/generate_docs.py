"""Write the generated parts of `docs/configuration.md`, or with `--check` say whether they are due.

A generated part stands between `<!-- generated: NAME -->` and `<!-- /generated -->`.
"""

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from retrain_backends.config import FieldDoc, SectionDoc, load_command_line, sections
from retrain_backends.config.describe import options_doc
from retrain_backends.errors import ConfigError
from retrain_backends.local.options import LocalOptions
from retrain_backends.tinker.options import Prices, TinkerOptions
from retrain_campaign.executors.options import RayOptions, SlurmOptions

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)

WRONG_FILE = """\
[trainig]
lr = 1e-3

[training]
batchsize = 4
group_size = "8"

[algorithm]
advantage_mode = "maxlr"
"""


def tables() -> str:
    """One table of keys for each TOML table."""
    return "\n".join("\n".join(_section(section)) for section in sections())


def options() -> str:
    """One table of keys for the options of each backend and of each executor."""
    docs = (
        options_doc("backend.options", LocalOptions),
        options_doc("backend.options", TinkerOptions),
        options_doc("backend.options.prices", Prices),
        options_doc("campaign.executor_options", RayOptions),
        options_doc("campaign.executor_options", SlurmOptions),
    )
    return "\n".join("\n".join(_options(doc)) for doc in docs)


def mistakes() -> str:
    """A wrong file, and what retrain says about it."""
    said = "\n".join(f"error: {problem}" for problem in _problems())
    command = "$ retrain my.toml --max-step 9 --lr fast"
    return f"```toml\n{WRONG_FILE}```\n\n```console\n{command}\n{said}\n```\n"


def _problems() -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("my.toml").write_text(WRONG_FILE, encoding="utf-8")
        try:
            load_command_line(["my.toml", "--max-step", "9", "--lr", "fast"])
        except ConfigError as error:
            return error.problems
    raise AssertionError("the wrong file was accepted")


def generated_page(page: str) -> str:
    """The page with its generated parts made anew."""
    parts = {"tables": tables(), "options": options(), "mistakes": mistakes()}
    return GENERATED.sub(lambda part: f"{part[1]}\n{parts[part[2]]}\n{part[3]}", page)


def _section(section: SectionDoc) -> Iterator[str]:
    yield f"### `{section.header}`\n"
    yield f"{section.description}\n"
    yield "| key | default | allowed | flag | meaning |"
    yield "|---|---|---|---|---|"
    yield from map(_row, section.fields)
    yield ""


def _options(section: SectionDoc) -> Iterator[str]:
    yield f"{section.description}\n"
    yield "| key | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for field in section.fields:
        yield _line(f"`{field.key}`", _default(field), field.allowed, field.description)
    yield ""


def _row(field: FieldDoc) -> str:
    flag = f"`--{field.flag}`" if field.flag else ""
    return _line(f"`{field.key}`", _default(field), field.allowed, flag, field.description)


def _default(field: FieldDoc) -> str:
    return "required" if field.default is None else f"`{field.default}`"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    new = generated_page(page)
    if check and new != page:
        sys.exit(f"{PAGE.name} is out of date; run: uv run python scripts/generate_docs.py")
    if not check:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
