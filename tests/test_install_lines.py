"""The install lines of the documentation, in fresh environments with an old pip."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from uv import find_uv_bin

from retrain_backends.tokenizer import resolve_model
from retrain_test_support.tinker.server import TinkerServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DATE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["exclude-newer"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
OLD_PIP = "pip==23.0.1"  # later ones find packages of the same line more often

REWARD = "def score(response, **_):\n    return float(sum(map(str.isdigit, response)) % 2)\n"
RUN = """
backend = {{ backend = "tinker", options = {{ download_adapter = true }} }}
model = {{ model = {model!r}, base_url = {url!r}, lora_rank = 4 }}
data = {{ source = "arithmetic" }}
reward = {{ type = "custom", custom_module = "odd_digits" }}
training = {{ max_steps = 3, batch_size = 4, group_size = 4, max_tokens = 16, lr = 0.1 }}
"""
CAMPAIGN = """
[campaign]
seeds = [1, 2]
[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"
"""


def install_lines(page):
    """The commands of a page that install packages of this clone."""
    text = re.sub(r"\\\n\s*", "", page.read_text("utf-8"))
    for command in re.findall(r"pip install [^`\n]*\./packages/[^`\n]*", text):
        yield from (" ".join(part.split()) for part in command.split("&&"))


LINES = sorted({line for page in PAGES for line in install_lines(page)})
TINKER_LINES = list(install_lines(ROOT / "docs" / "tinker.md"))


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def make_environment(tmp_path_factory):
    """Make an environment with nothing but an old pip; returns its directory of programs."""

    def make():
        place = tmp_path_factory.mktemp("environment")
        run(find_uv_bin(), "venv", "--clear", place, "--no-config")
        old_pip = ["--no-config", "--exclude-newer", DATE, OLD_PIP]
        run(find_uv_bin(), "pip", "install", "--python", place / "bin" / "python", *old_pip)
        return place / "bin"

    return make


@pytest.fixture(scope="module")
def old_pip(make_environment):
    return make_environment() / "pip"


@pytest.fixture(scope="module")
def tinker_machine(make_environment):
    """An environment in which the lines of docs/tinker.md were run."""
    programs = make_environment()
    for line in TINKER_LINES:
        run(programs / "pip", *shlex.split(line)[1:], cwd=ROOT)
    return programs


@pytest.fixture
def service():
    with TinkerServer(resolve_model("builtin:tiny-arithmetic")) as running:
        yield running


@pytest.fixture
def retrain(tinker_machine, service, tmp_path):
    """Run `retrain` there, in a directory with the files of a run and of a campaign."""
    settings = RUN.format(model=str(resolve_model("builtin:tiny-arithmetic")), url=service.url)
    (tmp_path / "odd_digits.py").write_text(REWARD)
    (tmp_path / "run.toml").write_text(settings)
    (tmp_path / "campaign.toml").write_text(settings + CAMPAIGN)
    clean = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return lambda *words: run(tinker_machine / "retrain", *words, cwd=tmp_path, env=clean)


@pytest.mark.parametrize("line", [line for line in LINES if "--no-deps" not in line])
def test_every_install_line_finds_its_packages(line, old_pip):
    words = shlex.split(line)[2:]
    plan = run(old_pip, "install", "--dry-run", *words, cwd=ROOT).splitlines()[-1]
    assert plan.startswith("Would install ")
    names = {Path(word.partition("[")[0]).name for word in words}
    assert names <= set(re.findall(r"([\w-]+?)-[\d.]+(?: |$)", plan))


def test_the_readme_has_the_lines_of_the_page():
    assert set(TINKER_LINES) <= set(install_lines(ROOT / "README.md"))


def test_a_tinker_machine_has_the_command_without_torch(tinker_machine, retrain):
    assert "Usage: retrain" in retrain("--help")
    run(tinker_machine / "pip", "check")
    installed = json.loads(run(tinker_machine / "pip", "list", "--format", "json"))
    names = {package["name"] for package in installed}
    assert "retrain-cli" in names
    assert not names & {"torch", "peft", "datasets", "math-verify"}


def test_a_run_on_a_tinker_machine(retrain, tmp_path):
    assert "at most 768 sampled tokens" in retrain("explain", "run.toml")
    retrain("run.toml")
    text = (tmp_path / "logs/train/metrics.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 3
    assert any(row["loss"] is not None for row in rows)
    assert len({row["mean_reward"] for row in rows}) > 1
    assert "3/3" in retrain("status", "logs")
    assert "layers" in retrain("squeeze", "logs/train/final")


def test_a_campaign_on_a_tinker_machine(retrain):
    assert "2: 1 condition" in retrain("explain", "campaign.toml")
    assert "2 done" in retrain("campaign.toml")
    assert "2 of 2" in retrain("status", "logs")
