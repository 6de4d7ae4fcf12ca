import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError
from retrain_backends.tinker.usage import TokenCount
from retrain_backends.train.checks.forecast import (
    PromptLengths,
    bounds,
    measure_prompts,
    measure_run,
)


def config_of(**changes):
    settings = {
        "model.model": "builtin:tiny-arithmetic",
        "data.source": "arithmetic",
        "training.max_steps": 10,
        "training.batch_size": 2,
        "training.group_size": 4,
        "training.max_tokens": 100,
    }
    return load_config(None, settings | {k.replace("__", "."): v for k, v in changes.items()})


@pytest.mark.parametrize(
    ("every", "steps"), [(0, []), (1, list(range(11))), (4, [0, 4, 8, 10]), (5, [0, 5, 10])]
)
def test_evaluation_steps(every, steps):
    assert config_of(eval__every=every).eval.due_after(10) == steps


def test_the_most_that_a_run_can_use():
    config = config_of(eval__every=5, eval__samples=2)
    most = bounds(config, PromptLengths(20, 10.0, 12), PromptLengths(3, 20.0, 25))
    assert most.step == TokenCount(prompt=20, sampled=800, trained=880)
    assert most.evaluation == TokenCount(prompt=60, sampled=600)
    assert most.run == TokenCount(20 * 10 + 60 * 3, 800 * 10 + 600 * 3, 880 * 10)
    assert bounds(config_of(), PromptLengths(20, 10.0, 12), None).evaluation == TokenCount()


def test_prompts_are_those_of_the_run():
    prompts, held_out = measure_prompts(config_of())
    assert (prompts.counted, held_out) == (20, None)
    assert 0 < prompts.mean <= prompts.longest
    _, held_out = measure_prompts(config_of(eval__every=1, eval__max_examples=7))
    assert held_out.counted == 7


def test_a_run_that_is_done_needs_nothing_more(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 9, "step_time_s": 36}\n')
    measured = measure_run(tmp_path, max_steps=5)
    assert (measured.steps, measured.hours, measured.hours_at_end) == (10, 0.01, 0.01)
    assert (measured.used, measured.at_end) == (None, None)


def test_no_run(tmp_path):
    with pytest.raises(ConfigError, match="is no run; name the directory of a run with a fin"):
        measure_run(tmp_path, 5)
