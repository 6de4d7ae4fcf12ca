"""The Python in the documentation runs as it stands, and its generated parts are current."""

import contextlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
# Needs the backend that its reader is about to write.
NOT_RUN = {"CONTRIBUTING.md"}


def blocks():
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            if name not in NOT_RUN:
                # A block that trains loads torch and takes its time.
                marks = [pytest.mark.slow] if "train(" in code else []
                yield pytest.param(code, id=f"{name}-{number}", marks=marks)


@pytest.mark.parametrize("code", list(blocks()))
def test_python_block_runs(code, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    program = tmp_path / "block.py"
    program.write_text(code, encoding="utf-8")
    with contextlib.chdir(tmp_path):
        runpy.run_path(str(program))


def test_the_generated_parts_are_current():
    command = [sys.executable, ROOT / "scripts" / "generate_docs.py", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
