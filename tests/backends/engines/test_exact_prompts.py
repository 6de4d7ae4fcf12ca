"""Servers that take prompts as texts, or return tokens as texts."""

import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import RunError
from retrain_backends.randomness import Purpose
from retrain_backends.testing.case import flat_logprobs, flat_tokens
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train

from .conftest import QUICKSTART
from .test_sampler import trainers

SPELLED = np.array([99, 92, 107])  # `l`, `e` and `t`: the text `let` is one other token


def requests(case, *more):
    return case.sampling.requests([*case.prompts, *more], Purpose.SAMPLE, 0)


@pytest.fixture
def policy(backend, server):
    server.behaviour.takes_ids = False
    return lambda **more: backend(**{"inference.prompts": "text"} | more)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "openai"])
def test_texts_give_the_same_completions_as_ids(backend, case, server, policy, engine):
    by_text = case.sample(policy(**{"inference.engine": engine}))
    server.behaviour.takes_ids = True
    assert flat_tokens(case.sample(backend())) == flat_tokens(by_text)


def test_a_prompt_with_other_tokens_than_its_text_is_refused(case, policy):
    line = (
        r"^step 0: prompt 3, which ends with `let`, has other tokens than its text, which is what"
        r' .*inference\.inexact_prompts = "drop", or .*\(inference\.prompts = "ids"\)$'
    )
    with pytest.raises(RunError, match=line):
        policy().sampler.sample(requests(case, SPELLED), case.sampling.params)


def test_a_prompt_with_other_tokens_than_its_text_is_dropped_and_counted(case, policy, caplog):
    dropping = policy(**{"inference.inexact_prompts": "drop"})
    asked = requests(case, SPELLED)[::-1]
    groups = dict(dropping.sampler.sample(asked, case.sampling.params))
    assert sorted(groups) == [1, 2, 3]
    assert groups[3][0].tokens_T.tolist() == case.sample(dropping)[0][0].tokens_T.tolist()
    assert dropping.usage().figures["inexact_prompts"] == 1
    assert dropping.usage().figures["inexact_prompts"] == 0
    assert "step 0: prompt 3, which ends with `let`" in caplog.text
    with pytest.raises(RunError, match="so have all 1 that were asked for: use a server that"):
        dropping.sampler.sample(requests(case, SPELLED)[3:], case.sampling.params)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_server_that_adds_tokens_to_a_text(case, server, policy, engine):
    server.behaviour.extra_token = 1
    line = rf"^{server.url} has encoded the text of a prompt into 5 tokens instead of 4: its tok"
    with pytest.raises(RunError, match=line):
        case.sample(policy(**{"inference.engine": engine}))


def test_tokens_that_come_back_as_texts(backend, case, server):
    server.behaviour.token_texts = True
    policy = backend(**{"inference.engine": "openai"})
    groups = case.sample(policy)
    assert flat_logprobs(groups) == pytest.approx(trainers(policy, case, groups), abs=1e-4)


def test_texts_of_unknown_tokens_are_refused(backend, case, server):
    server.behaviour.token_texts = True
    server.behaviour.id_offset = 10**6
    line = rf"^{server.url} sent texts instead of token ids, and the text '' is that of no single"
    with pytest.raises(RunError, match=line):
        case.sample(backend(**{"inference.engine": "openai"}))


def test_a_run_by_texts(server, tmp_path):
    server.behaviour.takes_ids, server.behaviour.token_texts = False, True
    settings = {
        "inference.engine": "openai",
        "inference.url": server.url,
        "inference.prompts": "text",
        "training.max_steps": 1,
        "training.batch_size": 2,
        "training.group_size": 4,
        "eval.every": 0,
        "logging.log_dir": str(tmp_path / "run"),
    }
    [row] = read_metrics(train(load_config(QUICKSTART, settings)).run_dir)
    assert row["inexact_prompts"] == row["failed_prompts"] == 0
    assert row["mean_abs_logprob_diff"] < 1e-4
