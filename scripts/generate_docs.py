"""Write the generated parts of the documentation, or with `--check` report outdated ones.

A generated part of a page stands between `<!-- generated: NAME -->` and `<!-- /generated -->`. The
flags on the page of `retrain --help` are a file of their own.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from retrain_backends.config import FieldDoc, SectionDoc, load_command_line, sections
from retrain_backends.config.describe import fields_by_path, options_doc, toml_value
from retrain_backends.errors import ConfigError
from retrain_backends.local.options import LocalOptions
from retrain_backends.tinker.options import Prices, TinkerOptions
from retrain_campaign.executors.options import RayOptions, SlurmOptions
from retrain_cli.flag_rows import short_flag
from retrain_core import ADVANTAGE_MODES, TRANSFORM_MODES, AdvantageSpec, TransformSpec

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (DOCS / "configuration.md", DOCS / "advantages.md")
FLAGS = ROOT / "packages" / "retrain-cli" / "src" / "retrain_cli" / "usual_flags.json"
GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)

# The flags on the first help page.
USUAL = (
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


def advantages() -> str:
    """One row for each advantage mode."""
    head = ("| mode | advantage of a completion | parameters |", "|---|---|---|")
    return "\n".join([*head, *(_mode(*mode) for mode in ADVANTAGE_MODES.items())]) + "\n"


def transforms() -> str:
    """One row for each transform mode."""
    head = ("| mode | advantage of a token | uses SEPA | parameters |", "|---|---|---|---|")
    modes = TRANSFORM_MODES.items()
    rows = (_mode(name, row, "yes" if row.uses_sepa else "no") for name, row in modes)
    return "\n".join([*head, *rows]) + "\n"


def _mode(name: str, row: AdvantageSpec | TransformSpec, *cells: str) -> str:
    parameters = (row.parameters or {}).items()
    shown = ", ".join(f"`{key} = {toml_value(default)}`" for key, default in parameters)
    return _line(f"`{name}`", row.summary, *cells, shown)


def mistakes() -> str:
    """A file with mistakes, and the messages of retrain."""
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


def usual_flags() -> str:
    """The flags that most runs use, with their rows on the first help page."""
    rows = [short_flag(fields_by_path()[path]) for path in USUAL]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def generated_page(page: str) -> str:
    """The page with its generated parts replaced."""
    parts = {
        "tables": tables,
        "options": options,
        "mistakes": mistakes,
        "advantages": advantages,
        "transforms": transforms,
    }
    return GENERATED.sub(lambda part: f"{part[1]}\n{parts[part[2]]()}\n{part[3]}", page)


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
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only report files out of date")
    check = parser.parse_args().check
    new = {path: generated_page(path.read_text(encoding="utf-8")) for path in PAGES}
    new[FLAGS] = usual_flags()
    old = [path for path, text in new.items() if text != path.read_text(encoding="utf-8")]
    if check and old:
        names = ", ".join(path.name for path in old)
        sys.exit(f"out of date: {names}; run: uv run python scripts/generate_docs.py")
    for path in old:
        path.write_text(new[path], encoding="utf-8")


if __name__ == "__main__":
    main()
