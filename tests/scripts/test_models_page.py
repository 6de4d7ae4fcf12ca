import runpy
from pathlib import Path

import pytest

from retrain_test_support.model_families import FAMILIES

ROOT = Path(__file__).parents[2]
row_of, agrees = (
    runpy.run_path(str(ROOT / "scripts" / "models_page.py"))[name] for name in ("row_of", "agrees")
)
SAMPLE = ("Qwen 2 with windows", "Gemma 3 (text)", "gpt-oss", "GPT-2", "Phi 3, long context")
REFUSED = ("BLOOM", "Mamba", "Nemotron")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in SAMPLE + REFUSED else [pytest.mark.slow])
        for name in FAMILIES
    ],
)
def test_the_page_has_what_is_measured(family):
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    row = row_of(FAMILIES[family])
    assert agrees(page, row), row


def test_another_result_is_noticed():
    page = "| Llama | `LlamaForCausalLM` | exact up to `x` tokens | 1e-06 | 1e-06 |"
    row = ("Llama", "`LlamaForCausalLM`", "exact", "2e-06", "1e-06")
    assert not agrees(page, row)
    assert agrees(page.replace(" up to `x` tokens", ""), row)
