"""Write the table of docs/models.md, or with `--check` compare its rows with new measurements.

    uv run python scripts/models_page.py [--check] [FAMILY ...]

For each family a tiny random model is written, loaded as a run loads it, and compared with the
plain forward pass of transformers: eager attention, no packing, no cache. The texts are longer than
its windows. `--check` needs the same result, and differences that are still tolerated.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig
from transformers.utils import logging as transformers_logging

from retrain_backends.errors import ModelError
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.self_test import FLOAT32, Texts, differences, self_test
from retrain_backends.local.sizes import context_of
from retrain_test_support.model_families import FAMILIES, Family, write_tiny_model

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
TABLE = re.compile(r"(<!-- generated: families -->\n).*?(<!-- /generated -->)", re.DOTALL)
HEADER = """\
| family | class in transformers | result | log-probs | gradient |
|---|---|---|---|---|
"""
TEXTS = Texts(prompts=(11, 4), completions=((9, 3, 6), (4,)), window=None)
BUDGET = 4096


def main() -> int:
    """Parse, measure, then write or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    parser.add_argument("--check", action="store_true", help="compare with the page instead")
    arguments = parser.parse_args()
    if unknown := set(arguments.families) - FAMILIES.keys():
        parser.error(f"no such family: {', '.join(sorted(unknown))}; known: {', '.join(FAMILIES)}")
    if arguments.families and not arguments.check:
        parser.error("only --check takes families: the page has all of them")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    families = [FAMILIES[name] for name in arguments.families or FAMILIES]
    page = PAGE.read_text(encoding="utf-8")
    if arguments.check:
        outdated = [row for row in map(row_of, families) if not agrees(page, row)]
        for row in outdated:
            print(f"{PAGE.name} has another row for `{row[0]}`: {line(row)}", file=sys.stderr)
        return 1 if outdated else 0
    table = HEADER + "".join(line(row_of(family)) + "\n" for family in families)
    PAGE.write_text(TABLE.sub(lambda part: part[1] + table + part[2], page), encoding="utf-8")
    return 0


def row_of(family: Family) -> tuple[str, ...]:
    """Name with note, class, result, and the differences of log-probs and gradient."""
    name = f"{family.name}: {family.note}" if family.note else family.name
    with tempfile.TemporaryDirectory() as directory:
        write_tiny_model(family, Path(directory))
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(AutoConfig.from_pretrained(directory))]
        try:
            base = BaseModel(directory, family.name, torch.device("cpu"), torch.float32)
            self_test((base, None), (base, None), BUDGET)
        except ModelError as error:
            reason = str(error).partition("backend: ")[2].rpartition("; choose")[0]
            return name, f"`{kind.__name__}`", f"refused: {reason}", "", ""
        *logprobs, gradient = differences(base, base, TEXTS, BUDGET)
    context = context_of(base.model.config)
    longrope = context is not None and context.longrope
    limit = " up to `original_max_position_embeddings` tokens" if longrope else ""
    worst = max(difference.value for difference in logprobs)
    tolerated = worst <= FLOAT32.logprob and gradient.value <= FLOAT32.gradient
    result = f"exact{limit}" if tolerated else "differs"
    return name, f"`{kind.__name__}`", result, f"{worst:.0e}", f"{gradient.value:.0e}"


def line(row: tuple[str, ...]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(row)} |"


def agrees(page: str, row: tuple[str, ...]) -> bool:
    """Whether the page has the row, other figures aside."""
    return any(text.startswith(line(row[:3])) for text in page.splitlines())


if __name__ == "__main__":
    sys.exit(main())
