import contextlib
from pathlib import Path

import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError


@pytest.fixture
def problems(tmp_path):
    """The lines about a file `run.toml` with the given text."""

    def load(text, overrides=None):
        (tmp_path / "run.toml").write_text(text, encoding="utf-8")
        with contextlib.chdir(tmp_path), pytest.raises(ConfigError) as caught:
            load_config(Path("run.toml"), overrides)
        assert all("\n" not in problem for problem in caught.value.problems)
        return list(caught.value.problems)

    return load


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[trainig]\nlr = 1", "run.toml: [trainig] is an unknown table; did you mean [training]?"),
        (
            "[[trainig]]\nlr = 1",
            "run.toml: [trainig] is an unknown table; did you mean [training]?",
        ),
        ("training = 3", "run.toml: [training] must be a table, not 3"),
        ("[[training]]\nlr = 1", "run.toml: [training] must be a table, not [{lr = 1}]"),
        ("lr = 1", "run.toml: lr is outside of any table; did you mean lr in [training]?"),
        (
            "[training]\nbatchsize = 1",
            "run.toml: [training] batchsize is an unknown key; did you mean batch_size?",
        ),
        (
            "[model]\nlr = 1",
            "run.toml: [model] lr is an unknown key; did you mean lr in [training]?",
        ),
        (
            "[gtpo]\nzzz = 1",
            "run.toml: [gtpo] zzz is an unknown key; the keys of [gtpo] are beta",
        ),
        (
            "[resume]\nfrom_ = 'x'",
            "run.toml: [resume] from_ is an unknown key; did you mean from?",
        ),
        (
            '[training]\ngroup_size = "8"',
            'run.toml: [training] group_size is `"8"`; it must be an integer >= 1',
        ),
        (
            "[training]\ntemperature = -1",
            "run.toml: [training] temperature is `-1`; it must be a number >= 0",
        ),
        ("[lora]\ndropout = nan", "run.toml: [lora] dropout is `nan`; it must be a number >= 0"),
        (
            "[sepa]\nschedule = 'liner'",
            'run.toml: [sepa] schedule is `"liner"`; it must be one of "linear", "auto"; '
            'did you mean "linear"?',
        ),
        (
            "[reward]\ntype = 'Match'",
            'run.toml: [reward] type is `"Match"`; it must be "match", "math", "judge", "custom", '
            'or a plugin (my_module.my_object); did you mean "match"?',
        ),
        (
            "[campaign]\nseeds = []",
            "run.toml: [campaign] seeds is `[]`; it must be a list of at least one integer >= 0, "
            "without repetition",
        ),
        (
            "[campaign]\nseeds = [1, 'x', 2.5]",
            'run.toml: [campaign] seeds is `[1, "x", 2.5]`; it must be a list of at least one '
            "integer >= 0, without repetition",
        ),
        (
            "[[campaign.conditions]]\nadvantage_mode = 'grpo'",
            "run.toml: [[campaign.conditions]] number 1, transform_mode is missing; it must be",
        ),
        (
            "[[campaign.conditions]]\nadvantage_mode='grpo'\ntransform_mode='none'\nlr=1",
            "run.toml: [[campaign.conditions]] number 1, lr is an unknown key; did you mean lr in",
        ),
        (
            "[campaign]\nconditions = [3]",
            "run.toml: [[campaign.conditions]] number 1 must be a table",
        ),
        (
            "[model]\nbase_url = 'http://_:hush@localhost'",
            'run.toml: [model] base_url is `"http://...@localhost"`; it must be an address that '
            "starts with http:// or https://, with no user or password before an `@` and no query",
        ),
        (
            "[environment]\nargs = '[1]'",
            'run.toml: [environment] args is `"[1]"`; it must be a table, or a JSON object as text',
        ),
        (
            "[algorithm.params]\nwhen = 2026-11-20",
            "run.toml: [algorithm] params is `{when = 2026-11-20}`; it must be a table, or",
        ),
        (
            '[data]\nprompt_template = "{question} \\boxed{}"',
            r'run.toml: [data] prompt_template is `"{question} \boxed{}"`; it must be text that '
            "contains {question}; in TOML write '\\boxed' between single quotes",
        ),
        (
            "[backpressure]\nmin_batch_size = 65",
            "run.toml: [backpressure] min_batch_size (65) must not be above max_batch_size (64)",
        ),
    ],
)
def test_one_mistake_is_one_line(problems, text, line):
    (problem,) = problems(text)
    assert problem.startswith(line)


def test_all_mistakes_are_reported_at_once(problems):
    text = "[trainig]\nlr = 1\n[training]\nlr = 'x'\nbatch_size = 0\n[gtpo]\nbeta = true\n"
    assert len(problems(text)) == 4


def test_a_wrong_override_is_reported_as_its_flag(problems):
    overrides = {"training.lr": "fast", "model.lora_rank": 0}
    assert problems("[gtpo]\nbeta = -1", overrides) == [
        "--lora-rank is `0`; it must be an integer >= 1",
        "--lr is `fast`; it must be a number >= 0",
        "run.toml: [gtpo] beta is `-1`; it must be a number >= 0",
    ]


def test_an_override_of_an_unknown_key_names_it():
    with pytest.raises(ConfigError, match=r"\[training\] lrr is an unknown key; did you mean lr\?"):
        load_config(None, {"training.lrr": 1.0})


def test_a_long_value_is_cut(problems):
    (problem,) = problems(f"[training]\nlr = '{'x' * 500}'")
    assert len(problem) < 200


def test_a_value_with_line_breaks_stays_on_one_line(problems):
    (problem,) = problems('[training]\nlr = """a\nb"""')
    assert r'"a\nb"' in problem
